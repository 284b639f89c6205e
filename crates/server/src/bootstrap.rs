//! Carries the questions of a member that belongs to no cluster yet to the members it was told of, and the answers of one that does.
//! What they mean is decided in [`replica::Bootstrap`].

use crate::Handle;
use crate::accept::{Question, read_frame};
use crate::clock::Clock;
use crate::greet::{self, DialError, Me};
use crate::handle::Control;
use crate::tls::Refusals;
use crate::wire::{self, FrameKind, Purpose};
use bytes::BytesMut;
use replica::{Bootstrap, BootstrapMessage, BootstrapOutcome, Introduction, KnownCluster};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing::{debug, info, warn};

/// How often the asking is looked after.
const STEP_INTERVAL: Duration = Duration::from_millis(100);
/// How often the operator hears whom the member still waits for, after the first time.
const WAITING_LOG_INTERVAL: Duration = Duration::from_secs(10);
/// How long the member waits before it first says so: members started together need a moment.
const WAITING_LOG_DELAY: Duration = Duration::from_secs(1);
/// How long a question may take, connection included.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Answers on their way back at most.
const ANSWERS_MAX: usize = 64;

/// Asks until it is decided whom this member belongs to.
pub(crate) async fn find_cluster(
    me: Arc<Me>,
    mut bootstrap: Bootstrap,
    clock: Clock,
    questions: &mut mpsc::Receiver<Question>,
) -> BootstrapOutcome {
    let (answers_in, mut answers) = mpsc::channel(ANSWERS_MAX);
    let refusals = Arc::new(Refusals::default());
    let mut askers: BTreeMap<String, oneshot::Sender<BootstrapMessage>> = BTreeMap::new();
    let mut step = interval(STEP_INTERVAL);
    step.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut say_at = Instant::now() + WAITING_LOG_DELAY;
    loop {
        tokio::select! {
            Some(question) = questions.recv() => {
                if let BootstrapMessage::Query(from) = &question.message {
                    askers.insert(from.name.clone(), question.answer);
                }
                bootstrap.handle(clock.monotonic(), question.message);
            }
            Some(answer) = answers.recv() => bootstrap.handle(clock.monotonic(), answer),
            _ = step.tick() => {}
        }
        for (name, message) in bootstrap.poll(clock.monotonic()) {
            match message {
                answer @ BootstrapMessage::Answer { .. } => {
                    if let Some(asker) = askers.remove(&name) {
                        let _ = asker.send(answer);
                    }
                }
                query @ BootstrapMessage::Query(_) => {
                    if let Some(address) = bootstrap.address(&name) {
                        tokio::spawn(ask(
                            me.clone(),
                            name,
                            address,
                            query,
                            answers_in.clone(),
                            refusals.clone(),
                        ));
                    }
                }
            }
        }
        if let Some(outcome) = bootstrap.outcome() {
            return outcome;
        }
        if Instant::now() >= say_at {
            info!("waiting for {}", bootstrap.waiting_for());
            say_at = Instant::now() + WAITING_LOG_INTERVAL;
        }
    }
}

/// Asks one member and brings its answer.
async fn ask(
    me: Arc<Me>,
    name: String,
    address: String,
    query: BootstrapMessage,
    answers: mpsc::Sender<BootstrapMessage>,
    refusals: Arc<Refusals>,
) {
    let exchange = async {
        let (mut stream, _) = greet::introduce(&me, None, &[address], Purpose::Bootstrap).await?;
        let mut out = BytesMut::new();
        wire::put_frame(&mut out, FrameKind::Bootstrap, &query.encode());
        let lost = |reason: String| DialError::Unreachable {
            reason,
            hung_up: true,
        };
        stream
            .send(&out)
            .await
            .map_err(|error| lost(error.to_string()))?;
        let frame = read_frame(&mut stream, &mut BytesMut::new())
            .await
            .ok_or_else(|| lost("it gave no answer".into()))?;
        BootstrapMessage::decode(frame.body).map_err(|error| DialError::Rejected(error.0))
    };
    match timeout(QUESTION_TIMEOUT, exchange).await {
        Ok(Ok(answer)) => {
            let _ = answers.send(answer).await;
        }
        Ok(Err(DialError::Rejected(reason))) if refusals.is_new(&format!("{name}: {reason}")) => {
            warn!(member = name, reason, "connection to member refused");
        }
        Ok(Err(error)) => debug!(member = name, reason = %error, "member did not answer"),
        Err(_) => debug!(
            member = name,
            reason = "no answer in time",
            "member did not answer"
        ),
    }
}

/// Answers those who still look for their cluster, for a member that has found it; a leader may admit them.
pub(crate) async fn answer_questions(
    mut questions: mpsc::Receiver<Question>,
    introduction: Introduction,
    handle: Handle,
    known: impl Fn() -> KnownCluster,
) {
    while let Some(question) = questions.recv().await {
        if let BootstrapMessage::Query(from) = question.message {
            handle.control(Control::Join(from));
            let _ = question.answer.send(BootstrapMessage::Answer {
                from: introduction.clone(),
                cluster: Some(known()),
            });
        }
    }
}
