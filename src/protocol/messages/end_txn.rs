//! EndTxn.

use crate::protocol::schema::messages;

messages! {
    /// Commits or aborts a transaction (KIP-98). Version 2 answers a fenced producer with PRODUCER_FENCED, 3 is
    /// flexible, 4 knows TRANSACTION_ABORTABLE, 5 gives the producer the epoch, or the id, for its next transaction:
    /// transactions V2 (KIP-890). The broker accepts version 5 whatever the finalized feature `transaction.version` is;
    /// a producer that uses it declares that the transaction followed V2.
    api 26 EndTxn, versions 0..=5, flexible 3.. => EndTxnRequest, EndTxnResponse;

    EndTxnRequest {
        transactional_id: String,   0..;
        producer_id:      i64,      0..;
        producer_epoch:   i16,      0..;
        /// Whether to commit.
        committed:        bool,     0..;
    }

    EndTxnResponse {
        throttle_time_ms: i32,      0..;
        error_code:       i16,      0..;
        producer_id:      i64 = -1, 5.., ignorable;
        producer_epoch:   i16 = -1, 5.., ignorable;
    }
}
