//! What is measured over sockets: the server in this process, its clients in another.

use std::error::Error;

use posthaste::{Memory, Server, SharedRuntime};
use posthaste_measure::Usage;
use posthaste_tokio::Tokio;
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

use crate::client::{Clients, Task};
use crate::point::Point;
use crate::{in_process, limit};

type Outcome<T = Point> = Result<T, Box<dyn Error>>;

const SMALL: usize = 64;

/// A broker behind a socket.
struct Office {
    url: String,
    _server: Server,
    /// The threads on which the server runs.
    _runtime: Runtime,
    _folder: TempDir,
}

impl Office {
    fn open(scheme: &str) -> Outcome<Self> {
        let folder = TempDir::new()?;
        let url = match scheme {
            "unix" => format!("unix:{}", folder.path().join("growth.sock").display()),
            scheme => format!("{scheme}://127.0.0.1:0"),
        };
        let threads = Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let runtime: SharedRuntime = Tokio::new(threads.handle().clone()).into();
        let broker = Memory::with_runtime(runtime.clone());
        let server = threads.block_on(posthaste::serve(runtime, broker, &url))?;
        let url = server.endpoints().first().ok_or("a server without an address")?.to_string();
        Ok(Self { url, _server: server, _runtime: threads, _folder: folder })
    }
}

/// `size` connections, of which one is used.
pub(crate) fn connections(size: u64, quick: bool) -> Outcome {
    if let Err(reason) = limit::allow(size) {
        return Ok(Point { missing: Some(reason), ..Point::default() });
    }
    let mut point = Point::default();
    let office = Office::open("tcp")?;
    let mut clients = Clients::start(&office.url, SMALL)?;
    let messages = if quick { 2_000 } else { 300_000 };
    // The connection that is used, and whatever else the server needs only once.
    clients.run(Task::Move(messages / 10))?;
    let before = Usage::now()?;
    clients.run(Task::Idle(size - 1))?;
    point.memory(size - 1, &before, &Usage::now()?);
    clients.run(Task::Move(messages / 10))?;
    let before = Usage::now()?;
    let done = clients.run(Task::Move(messages))?;
    point.cost("broker", Usage::now()?.cpu_since(&before), messages);
    point.cost("clients", done.cpu, messages);
    point.wall("through the broker", done.took, messages);
    Ok(point)
}

/// A payload of `size` bytes, in process and over sockets.
pub(crate) fn payload(size: u64, quick: bool) -> Outcome {
    let bytes = usize::try_from(size)?;
    let (most, volume, least) = match quick {
        true => (1_000, 1 << 20, 2),
        false => (200_000, 256 << 20, 16),
    };
    let messages = (volume / size.max(1)).clamp(least, most);
    let mut point = in_process::payload(bytes, quick)?;
    for (how, scheme) in [("TCP", "tcp"), ("Unix", "unix")] {
        let office = Office::open(scheme)?;
        let mut clients = Clients::start(&office.url, bytes)?;
        clients.run(Task::Move(messages / 10 + 1))?;
        let before = Usage::now()?;
        let done = clients.run(Task::Move(messages))?;
        point.cost(how, Usage::now()?.cpu_since(&before) + done.cpu, messages);
        point.wall(how, done.took, messages);
    }
    Ok(point)
}
