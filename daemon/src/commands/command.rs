//! The contract of a control command: a `Spec` that tells consoles about it, and a function that does it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use pipectl_shared::rpc;
use pipectl_shared::spec::Spec;
use serde_json::{Map, Value};

use super::context::Context;
use crate::plans::words::quote;
use crate::runtime::StageHandle;

/// What a command's function returns: the result document, or the refusal.
pub type Run<'a> = Pin<Box<dyn Future<Output = Result<Value, rpc::Error>> + Send + 'a>>;

/// One item of the gallery.
pub struct Command {
    /// Describes it. A hidden command (`x-` prefix in its name) is left out of `hello` and works only in a daemon that was
    /// started with test commands on.
    pub spec: fn() -> Spec,
    /// Does it, or with `dry_run` only says what it would do. Parameters were checked against the Spec before.
    pub run:
        for<'a> fn(context: &'a Context, params: &'a Map<String, Value>, dry_run: bool) -> Run<'a>,
}

/// The stage that parameter `stage` names, with its index. The Spec's check has seen to it that it exists.
pub(super) fn stage<'a>(
    context: &'a Context,
    params: &Map<String, Value>,
) -> Result<(usize, &'a Arc<StageHandle>), rpc::Error> {
    let name = params
        .get("stage")
        .and_then(Value::as_str)
        .unwrap_or_default();
    context.handle.stage(name).ok_or_else(|| {
        rpc::Error::new(
            rpc::Code::NotFound,
            format!("stage {} does not run", quote(name)),
        )
    })
}
