//! Calls: what clients ask of the broker beside sending and receiving.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use posthaste_core::{BoxFuture, Error, ErrorKind};

use super::Shared;
use crate::control::queue_info::Through;
use crate::control::{self, method};

/// The most messages that are looked at for one page.
const BROWSED: usize = 256;

/// Answers one call.
pub(super) fn answer(
    shared: Arc<Shared>,
    method: u16,
    body: Bytes,
) -> BoxFuture<'static, Result<Vec<u8>, Error>> {
    Box::pin(async move {
        let broker = &shared.broker;
        match method {
            method::DECLARE => {
                broker.declare(control::queue::decode(&body)?).await?;
                Ok(Vec::new())
            }
            method::DELETE => {
                broker.delete(&control::name::decode(&body)?).await?;
                Ok(Vec::new())
            }
            method::QUEUE => {
                let info = broker.queue(&control::name::decode(&body)?).await?;
                Ok(control::queue_info::encode(&info))
            }
            method::STATS => {
                let after = control::name::decode_maybe(&body)?;
                let mut stats = broker.stats().await?;
                stats.connections = shared.established.load(Ordering::Relaxed);
                Ok(control::stats::encode(&mut stats, after.as_ref()))
            }
            method::PURGE => {
                let count = broker.purge(&control::name::decode(&body)?).await?;
                Ok(control::queue_info::purged::encode(count))
            }
            method::BROWSE => {
                let Through { queue, after, limit } = Through::decode(&body)?;
                let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(BROWSED);
                let messages = broker.browse(&queue, after, limit).await?;
                Ok(control::queue_info::browsed::encode(messages))
            }
            method::REPLAY => {
                let Through { queue, limit, .. } = Through::decode(&body)?;
                let replayed = broker.replay(&queue, limit).await?;
                Ok(control::queue_info::replayed::encode(&replayed))
            }
            method::CAPABILITIES => Ok(control::capabilities::encode(&broker.capabilities())),
            other => Err(Error::new(
                ErrorKind::Unsupported,
                format!("the server does not know call {other}; it may be older than the client"),
            )),
        }
    })
}
