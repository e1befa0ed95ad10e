//! Calls: one question to the server, one answer.

use std::sync::Arc;

use bytes::Bytes;
use posthaste_core::Error;
use posthaste_core::task::OneShot;

use super::state::{Answer, Shared, command_error};

/// Calls the server and waits for its answer; while the connection is being made again, for that.
pub(crate) async fn call(shared: &Shared, method: u16, body: &[u8]) -> Result<Bytes, Error> {
    shared.up().await?;
    let cell: Arc<Answer> = Arc::new(OneShot::new());
    let call = {
        let mut state = shared.lock();
        // Taken from a counter that wraps after four thousand million calls, of which a thousand
        // at most are open at a time.
        let id = u32::try_from(state.next_number() & u64::from(u32::MAX)).unwrap_or_default();
        state.session.call(id, method, body).map_err(|error| command_error(&error))?;
        state.calls.insert(id, Arc::clone(&cell));
        shared.unlock(state);
        Call { shared, id }
    };
    let answer = std::future::poll_fn(|cx| cell.poll_take(cx)).await;
    drop(call);
    answer
}

/// Forgets the call when its caller does.
struct Call<'a> {
    shared: &'a Shared,
    id: u32,
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.shared.lock().calls.remove(&self.id);
    }
}
