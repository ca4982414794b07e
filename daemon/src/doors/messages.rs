//! Requests out of lines and lines out of answers. No I/O beyond the outbox of one client.

use std::sync::Arc;

use pipectl_shared::rpc::{Code, Error, Request, Response};
use pipectl_shared::wire::{self, Line, LineError};
use serde::Serialize;
use serde_json::Value;

use super::outbox::Outbox;
use crate::plans::words::quote;

/// Longest id of a request, as JSON; it is sent back.
const ID_MAX: usize = 128;

/// An answer that is owed: if its task is dropped or panics, the client is told instead of waiting for ever.
pub(super) struct Debt {
    outbox: Arc<Outbox>,
    id: Option<Value>,
}

impl Debt {
    pub(super) fn new(outbox: &Arc<Outbox>, id: Value) -> Self {
        Self {
            outbox: Arc::clone(outbox),
            id: Some(id),
        }
    }

    pub(super) async fn pay(mut self, result: Result<Value, Error>) {
        if let Some(id) = self.id.take() {
            self.outbox.reply(response(id, result)).await;
        }
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            let error = Error::new(
                Code::Internal,
                "the request was given up before it was answered",
            );
            self.outbox.reply_now(response(id, Err(error)));
        }
    }
}

/// A line with an answer; one that does not fit a line becomes an error.
pub(super) fn response(id: Value, result: Result<Value, Error>) -> Vec<u8> {
    let encode = |id: Value, result: Result<Value, Error>| {
        let (result, error) = match result {
            Ok(value) => (Some(value), None),
            Err(error) => (None, Some(error)),
        };
        wire::encode(&Response {
            jsonrpc: "2.0".to_owned(),
            id,
            result,
            error,
        })
    };
    encode(id.clone(), result)
        .or_else(|e| {
            let error = Error::new(Code::TooLarge, format!("the answer does not fit: {e}"));
            encode(
                id,
                Err(error.hint("ask for less: a page, one stage, one field")),
            )
        })
        .unwrap_or_default()
}

/// A line with a notification; `None` when it does not fit a line.
pub(super) fn notification(method: &str, params: &impl Serialize) -> Option<Vec<u8>> {
    let params = serde_json::to_value(params).ok()?;
    let request = Request {
        jsonrpc: "2.0".to_owned(),
        id: None,
        method: method.to_owned(),
        params,
    };
    wire::encode(&request).ok()
}

pub(super) type Asked = (Value, String, Value);

/// What a line asks: `None` = a notification. Errors come with the id to be answered under.
pub(super) fn request(line: &Line) -> Result<Option<Asked>, (Value, Error)> {
    let parsed: Value = line.parse().map_err(|e| {
        let code = if matches!(e, LineError::Unexpected(_)) {
            Code::InvalidRequest
        } else {
            Code::Parse
        };
        (Value::Null, Error::new(code, e.to_string()))
    })?;
    let invalid = |id: Value, what: &str| (id, Error::new(Code::InvalidRequest, what.to_owned()));
    let Value::Object(mut object) = parsed else {
        return Err(invalid(
            Value::Null,
            "a request is an object; batches are not taken",
        ));
    };
    let id = object.remove("id").unwrap_or(Value::Null);
    let is_id = match &id {
        Value::Null => true,
        Value::String(text) => text.len() <= ID_MAX,
        Value::Number(_) => true,
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => false,
    };
    if !is_id {
        return Err(invalid(
            Value::Null,
            "the id of a request is a number or a text of at most 128 bytes",
        ));
    }
    if object.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid(id, "jsonrpc is not \"2.0\""));
    }
    let Some(Value::String(method)) = object.remove("method") else {
        return Err(invalid(id, "a request names a method"));
    };
    if id.is_null() {
        tracing::debug!(
            method = quote(&method),
            "a client's notification is ignored"
        );
        return Ok(None);
    }
    Ok(Some((
        id,
        method,
        object.remove("params").unwrap_or(Value::Null),
    )))
}
