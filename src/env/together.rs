//! A few futures of one kind, polled side by side: reads of a disk that can do many at once.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// What one future came to, or the future.
enum One<F: Future> {
    Waiting(Pin<Box<F>>),
    Done(F::Output),
}

/// Waits for all of them; what they came to, in their order. For a few: each is polled whenever one
/// is woken.
pub async fn together<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F::Output: Unpin,
{
    let mut all: Vec<One<F>> =
        futures.into_iter().map(|future| One::Waiting(Box::pin(future))).collect();
    poll_fn(|context| {
        let mut is_over = true;
        for one in &mut all {
            if let One::Waiting(future) = one {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *one = One::Done(output),
                    Poll::Pending => is_over = false,
                }
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let done = all.into_iter().filter_map(|one| match one {
        One::Done(output) => Some(output),
        One::Waiting(_) => None,
    });
    done.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env as _;
    use crate::env::sim::{Faults, Sim};
    use std::time::Duration;

    #[test]
    fn waits_for_the_longest_alone_and_keeps_the_order() {
        let sim = Sim::new(1, Faults::none());
        let env = sim.env(0);
        let took = sim.run_until(async {
            let start = env.now();
            let sleeps = [3, 1, 2].map(|seconds| {
                let env = env.clone();
                async move {
                    env.sleep(Duration::from_secs(seconds)).await;
                    seconds
                }
            });
            assert_eq!(together(sleeps).await, [3, 1, 2]);
            env.now().since(start)
        });
        assert_eq!(took.unwrap().as_secs(), 3);
    }
}
