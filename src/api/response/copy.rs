//! Answers about copies and branches.

use std::time::Duration;

use super::{timestamp, whole_ms};
use crate::api::error;
use crate::model::write::origin::OriginKind;
use crate::namespace::{CopyOutcome, Operation};
use serde_json::{Value, json};

/// The answer to a write that copied or branched.
///
/// * `total` — time since the request arrived
pub fn copied(outcome: &CopyOutcome, kind: OriginKind, total: Duration) -> Vec<u8> {
    let message = match kind {
        OriginKind::Copy => "documents copied successfully",
        OriginKind::Branch => "namespace branched successfully",
    };
    let mut body = result(outcome, message);
    body["performance"] = json!({ "server_total_ms": whole_ms(total) });
    body.to_string().into_bytes()
}

/// The answer to the start of a copy by token.
pub fn started(token: &str) -> Vec<u8> {
    json!({ "token": token }).to_string().into_bytes()
}

/// What is known of a copy by token.
pub fn operation(operation: &Operation) -> Vec<u8> {
    let body = match operation {
        Operation::Running { started_ms, progress } => json!({
            "status": "running", "start_time": timestamp(*started_ms), "progress": progress,
        }),
        Operation::Finished {
            started_ms,
            finished_ms,
            result: ended,
        } => json!({
            "status": "finished", "start_time": timestamp(*started_ms), "finish_time": timestamp(*finished_ms),
            "result": match ended {
                Ok(outcome) => json!({ "success": result(outcome, "documents copied successfully") }),
                Err(failure) => json!({ "error": {
                    "status_code": error::status(failure.kind).as_u16(),
                    "detail": { "status": "error", "error": failure.message },
                }}),
            },
        }),
    };
    body.to_string().into_bytes()
}

fn result(outcome: &CopyOutcome, message: &str) -> Value {
    json!({
        "status": "OK",
        "message": message,
        "rows_affected": outcome.rows,
        "billing": { "billable_logical_bytes_written": outcome.logical_bytes },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::model::Seq;
    use crate::namespace::OperationFailure;

    const OUTCOME: CopyOutcome = CopyOutcome {
        seq: Seq(1),
        rows: 12,
        logical_bytes: 480,
    };

    fn of(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).expect("JSON")
    }

    #[test]
    fn a_copy_is_answered_like_a_write() {
        let answer = of(&copied(&OUTCOME, OriginKind::Copy, Duration::from_millis(7)));
        assert_eq!(
            answer,
            json!({"status": "OK", "message": "documents copied successfully", "rows_affected": 12,
                   "billing": {"billable_logical_bytes_written": 480}, "performance": {"server_total_ms": 7}})
        );
    }

    #[test]
    fn operations_have_the_documented_shapes() {
        let running = Operation::Running {
            started_ms: 1000,
            progress: "reading the source".into(),
        };
        assert_eq!(
            of(&operation(&running)),
            json!({"status": "running", "start_time": "1970-01-01T00:00:01.000Z", "progress": "reading the source"})
        );
        let ended = |result| Operation::Finished {
            started_ms: 1000,
            finished_ms: 2000,
            result,
        };
        assert_eq!(
            of(&operation(&ended(Ok(OUTCOME)))),
            json!({"status": "finished", "start_time": "1970-01-01T00:00:01.000Z",
                   "finish_time": "1970-01-01T00:00:02.000Z",
                   "result": {"success": {"status": "OK", "message": "documents copied successfully",
                              "rows_affected": 12, "billing": {"billable_logical_bytes_written": 480}}}})
        );
        let failure = OperationFailure {
            kind: ErrorKind::NotFound,
            message: "not there".into(),
        };
        assert_eq!(
            of(&operation(&ended(Err(failure))))["result"],
            json!({"error": {"status_code": 404, "detail": {"status": "error", "error": "not there"}}})
        );
    }
}
