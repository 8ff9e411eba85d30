//! The checks of a produced batch that a broker does before it looks at the log (`ProduceRequest.validateRecords`,
//! `UnifiedLog.analyzeAndValidateRecords`, `LogValidator`). In addition it refuses header fields that no client has a
//! reason to write, and that Kafka corrects or ignores: timestamps other than those of the records, unknown attributes,
//! a producer id without an epoch, bytes after the batch.

use crate::bytes::SharedBytes;
use crate::error::ErrorCode;
use crate::protocol::wire::Records;
use crate::record::batch::BatchHeader;
use crate::record::broker::decode_produced;
use crate::record::compression::{Compression, Decompressor};
use crate::record::reader::{Batches, DecodedBatch};

/// Why a partition's batch is not written.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: Option<String>,
    /// The indices of the records that caused it, each with the reason (KIP-467).
    pub(super) record_errors: Vec<(i32, String)>,
    /// The log's start offset, which a broker sends with errors that it finds in the log; else -1.
    pub(super) log_start_offset: i64,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), ..code.into() }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self { code, message: None, record_errors: Vec::new(), log_start_offset: -1 }
    }
}

/// A batch whose frame is valid. Its content may be wrong, which a broker finds later than some other faults.
pub(super) struct Checked<'b> {
    pub(super) bytes: &'b SharedBytes,
    pub(super) header: BatchHeader,
    pub(super) content: Result<DecodedBatch, Refusal>,
}

/// Checks a partition's `records`, at a version of Produce.
pub(super) fn check<'b>(
    records: &'b Records,
    version: i16,
    decompressor: &mut Decompressor,
) -> Result<Checked<'b>, Refusal> {
    let (bytes, header) = frame(records)?;
    if version < 7 && matches!(header.attributes.compression(), Some(Compression::Zstd(_))) {
        let message = format!("zstd is not allowed in version {version} of Produce");
        return Err(Refusal::new(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, message));
    }
    let content = decode_produced(bytes, decompressor).map_err(|error| {
        let is_compressed = header.attributes.compression() != Some(Compression::None);
        let code = if bytes.get(21..).map(crc32c::crc32c) != Some(header.crc) {
            ErrorCode::CORRUPT_MESSAGE
        } else if is_compressed && !decompresses(bytes, decompressor) {
            // A broker has no error code for data that a codec cannot decompress.
            ErrorCode::UNKNOWN_SERVER_ERROR
        } else {
            ErrorCode::INVALID_RECORD
        };
        Refusal::new(code, error.to_string())
    });
    Ok(Checked { bytes, header, content })
}

fn decompresses(bytes: &SharedBytes, decompressor: &mut Decompressor) -> bool {
    Batches::new(bytes).next().and_then(Result::ok).is_some_and(|batch| batch.decode(decompressor).is_ok())
}

/// The bytes and the header of exactly one batch of the format v2.
pub(super) fn frame(records: &Records) -> Result<(&SharedBytes, BatchHeader), Refusal> {
    let invalid = |message: &str| Refusal::new(ErrorCode::INVALID_RECORD, message);
    let Records::Inline(bytes) = records else {
        return Err(invalid("the partition has no records"));
    };
    let mut batches = Batches::new(bytes);
    let first = match batches.next() {
        Some(Ok(batch)) => batch,
        Some(Err(error)) => return Err(Refusal::new(ErrorCode::CORRUPT_MESSAGE, error.to_string())),
        None => return Err(invalid("the partition has no whole batch")),
    };
    if first.magic() != 2 {
        return Err(invalid("the batch is not of the format v2"));
    }
    if !batches.rest().is_empty() {
        return Err(invalid("the partition has more than one batch"));
    }
    let header = first.header().ok_or_else(|| Refusal::new(ErrorCode::CORRUPT_MESSAGE, "the batch has no header"))?;
    Ok((bytes, header))
}
