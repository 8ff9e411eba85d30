//! InitProducerId.

use crate::protocol::schema::messages;

messages! {
    /// Gives a producer its id and epoch (KIP-98). Version 3 bumps the epoch of a known id (KIP-360), 4 answers a
    /// fenced producer with PRODUCER_FENCED, 5 knows TRANSACTION_ABORTABLE (KIP-890). Version 6, for two-phase commit
    /// (KIP-939), is not stable as of Kafka 4.3.
    api 22 InitProducerId, versions 0..=5, flexible 2.. => InitProducerIdRequest, InitProducerIdResponse;

    InitProducerIdRequest {
        /// Null for a producer that is only idempotent.
        transactional_id:       Option<String>, 0..;
        /// How long a transaction may take before the coordinator aborts it.
        transaction_timeout_ms: i32,            0..;
        /// The present id and epoch, if the epoch is to be bumped; -1 for a new producer.
        producer_id:            i64 = -1,       3..;
        producer_epoch:         i16 = -1,       3..;
    }

    InitProducerIdResponse {
        throttle_time_ms:       i32,            0.., ignorable;
        error_code:             i16,            0..;
        producer_id:            i64 = -1,       0..;
        producer_epoch:         i16,            0..;
    }
}
