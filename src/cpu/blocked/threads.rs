//! Partial sums exchanged between the threads that train one model.
//!
//! One exchange per SGD step. Each thread owns two lines of memory, used in turn: it writes its partial sums and then the
//! number of the exchange; the others wait for that number and read. A thread enters exchange n+1 only after it has read
//! everybody's n, and its line for n is written again at n+2, after everybody has announced n+1: so two lines suffice.
//! Waiting threads spin briefly and then yield, so that a stolen core costs a time slice and not a deadlock.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Spins before the first yield: about 10 microseconds where a pause takes 140 cycles.
const SPINS: u32 = 200;

/// 64 bytes on their own pair of cache lines (neighbouring lines are fetched together).
#[repr(align(128))]
struct Line([AtomicU32; 16]);

/// The lines of all threads.
pub struct Exchange {
    threads: usize,
    /// Lines per thread and turn.
    span: usize,
    lines: Vec<Line>,
    /// Set when a thread panicked: the others must not wait for it.
    failed: AtomicBool,
    /// Nanoseconds that threads waited after they had given up spinning, summed over threads.
    lost: AtomicU64,
}

impl Exchange {
    /// For `threads` threads that contribute up to `values` numbers each.
    pub fn new(threads: usize, values: usize) -> Self {
        // Word 0 of the first line is the number of the exchange.
        let span = (values + 1).div_ceil(16);
        let count = if threads == 1 { 0 } else { threads * 2 * span };
        let lines = (0..count).map(|_| Line(std::array::from_fn(|_| AtomicU32::new(0)))).collect();
        Self { threads, span, lines, failed: AtomicBool::new(false), lost: AtomicU64::new(0) }
    }

    fn word(&self, thread: usize, turn: u32, word: usize) -> &AtomicU32 {
        let line = (thread * 2 + turn as usize) * self.span + word / 16;
        &self.lines[line].0[word % 16]
    }

    /// Exchange number `number` (1, 2, ..; wrapping): announces `all[own]` as thread `thread`'s part and fills in the parts
    /// of the others; thread t's part is `parts(t)`.
    pub fn all_gather(
        &self,
        thread: usize,
        number: u32,
        all: &mut [f32],
        parts: impl Fn(usize) -> std::ops::Range<usize>,
    ) {
        if self.threads == 1 {
            return;
        }
        let turn = number % 2;
        for (i, value) in all[parts(thread)].iter().enumerate() {
            self.word(thread, turn, i + 1).store(value.to_bits(), Ordering::Relaxed);
        }
        self.word(thread, turn, 0).store(number, Ordering::Release);
        for other in (0..self.threads).filter(|&t| t != thread) {
            self.wait(other, turn, number);
            for (i, value) in all[parts(other)].iter_mut().enumerate() {
                *value = f32::from_bits(self.word(other, turn, i + 1).load(Ordering::Relaxed));
            }
        }
    }

    fn wait(&self, other: usize, turn: u32, number: u32) {
        let announced = self.word(other, turn, 0);
        let mut spins = 0;
        let mut yielding: Option<Instant> = None;
        while announced.load(Ordering::Acquire) != number {
            if spins < SPINS {
                spins += 1;
                std::hint::spin_loop();
            } else {
                yielding.get_or_insert_with(Instant::now);
                assert!(!self.failed.load(Ordering::Relaxed), "another training thread failed");
                std::thread::yield_now();
            }
        }
        if let Some(since) = yielding {
            self.lost.fetch_add(since.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
    }

    /// Time that threads waited longer than a few spins, summed over threads: much of it means that the threads do not run
    /// at the same time, because others want the cores too.
    pub fn lost(&self) -> Duration {
        Duration::from_nanos(self.lost.load(Ordering::Relaxed))
    }

    /// Tells the other threads when the holder panics.
    pub fn guard(&self) -> Guard<'_> {
        Guard(self)
    }
}

/// See [`Exchange::guard`].
pub struct Guard<'a>(&'a Exchange);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_reads_everybody() {
        for threads in [1, 2, 3, 7] {
            let exchange = Exchange::new(threads, 20);
            std::thread::scope(|scope| {
                for me in 0..threads {
                    let exchange = &exchange;
                    scope.spawn(move || {
                        let _guard = exchange.guard();
                        let mut all = vec![0.0; threads * 20];
                        for number in 1..300u32 {
                            for (i, v) in all[me * 20..(me + 1) * 20].iter_mut().enumerate() {
                                *v = (number as usize * 1000 + me * 20 + i) as f32;
                            }
                            exchange.all_gather(me, number, &mut all, |t| t * 20..(t + 1) * 20);
                            for (i, v) in all.iter().enumerate() {
                                assert_eq!(*v, (number as usize * 1000 + i) as f32);
                            }
                        }
                    });
                }
            });
        }
    }

    #[test]
    fn a_failing_thread_does_not_hang_the_others() {
        let exchange = Exchange::new(2, 1);
        let results = std::thread::scope(|scope| {
            let first = scope.spawn(|| {
                let _guard = exchange.guard();
                exchange.all_gather(0, 1, &mut [0.0; 2], |t| t..t + 1);
            });
            let second = scope.spawn(|| {
                let _guard = exchange.guard();
                panic!("on purpose");
            });
            [first.join().is_err(), second.join().is_err()]
        });
        assert_eq!(results, [true, true]);
    }
}
