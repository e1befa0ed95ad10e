//! The executors that benchmarks run on, how each runs a round of tasks, and how long they measure.

use std::future::Future;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput};
use posthaste::{BoxFuture, Error, SharedRuntime};
use posthaste_smol::Smol;
use posthaste_tokio::Tokio;
use tokio::runtime::{Builder, Runtime};

/// A task of a measured round; an error ends the benchmark.
pub(crate) type Task = BoxFuture<'static, Result<(), Error>>;

/// Short measurements: all benchmarks together take about a minute. For figures to quote, give
/// `--measurement-time 10 --sample-size 50` on the command line and keep the machine quiet.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .nresamples(5_000)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300))
        .without_plots()
}

/// A group whose rounds move `work` messages each.
pub(crate) fn group<'a>(
    criterion: &'a mut Criterion,
    name: &str,
    work: u64,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    // Rounds are long, so each sample is one or a few of them.
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(work));
    group
}

/// An executor under measurement.
pub(crate) struct Machine {
    name: &'static str,
    runtime: SharedRuntime,
    tokio: Option<Runtime>,
}

impl Machine {
    /// Tokio with two threads and with one, and smol with one.
    pub(crate) fn all() -> Vec<Self> {
        let alone = Self::over_tokio("tokio ct", &mut Builder::new_current_thread());
        vec![Self::tokio_threads(), alone, Self::smol()]
    }

    /// Tokio with two threads.
    pub(crate) fn tokio_threads() -> Self {
        Self::over_tokio("tokio mt", Builder::new_multi_thread().worker_threads(2))
    }

    /// Smol's global executor: one thread.
    fn smol() -> Self {
        Self { name: "smol", runtime: Smol::global().into(), tokio: None }
    }

    fn over_tokio(name: &'static str, builder: &mut Builder) -> Self {
        let tokio = builder.enable_all().build().expect("tokio starts");
        Self { name, runtime: Tokio::new(tokio.handle().clone()).into(), tokio: Some(tokio) }
    }

    /// The executor as the framework sees it.
    pub(crate) fn runtime(&self) -> SharedRuntime {
        self.runtime.clone()
    }

    /// Runs `future` on the calling thread, beside the executor's own.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        match &self.tokio {
            Some(tokio) => tokio.block_on(future),
            None => pollster::block_on(future),
        }
    }

    /// Measures how long the tasks of a round take, without the `setup` that makes them.
    pub(crate) fn bench<S, F>(
        &self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        row: &str,
        mut setup: S,
    ) where
        S: FnMut() -> F,
        F: Future<Output = Result<Vec<Task>, Error>>,
    {
        group.bench_function(BenchmarkId::new(row, self.name), |bencher| {
            bencher.iter_batched(
                || self.block_on(setup()).expect("a round is set up"),
                |tasks| self.run(tasks).expect("a round runs"),
                BatchSize::PerIteration,
            );
        });
    }

    /// Spawns all tasks and waits until the last one is done.
    fn run(&self, tasks: Vec<Task>) -> Result<(), Error> {
        let (done, outcomes) = async_channel::bounded(tasks.len());
        let count = tasks.len();
        for task in tasks {
            let done = done.clone();
            self.runtime.spawn(Box::pin(async move {
                // Nobody listens any more when another task of the round has failed.
                let _ = done.send(task.await).await;
            }));
        }
        drop(done);
        self.block_on(async {
            for _ in 0..count {
                outcomes.recv().await.map_err(|_| Error::closed("a task"))??;
            }
            Ok(())
        })
    }
}
