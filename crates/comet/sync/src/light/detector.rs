//! Asking the witnesses: does anybody have another header?
//!
//! Reference: `cometbft:light/detector.go`.

use std::sync::Arc;

use comet_chain::detect::{
    Comparison, Divergence, ExamineStep, TraceExamination, attack_evidence, compare, conflicts_by_time,
};
use comet_chain::light::{LightBlock, ProviderError};
use wire_cometbft::evidence::{Evidence, EvidenceSum};

use super::{Fetches, LightClient, LightClientError, Provider, side_by_side};

/// What a witness says about a verified block.
enum Answer {
    Match,
    Conflict(Box<LightBlock>),
    Priorities,
    /// It cannot be asked now.
    None(ProviderError),
    /// It sent something that is no such block.
    Bad(String),
}

/// What a witness that may be behind has.
enum Latest {
    Target(LightBlock),
    Behind(LightBlock),
}

/// Enough of a client to ask one witness on a task of its own.
#[derive(Clone)]
pub(super) struct Asker {
    chain_id: Arc<str>,
    retries: usize,
    patience: std::time::Duration,
}

impl Asker {
    pub(super) async fn fetch(&self, provider: &Provider, height: i64) -> Result<LightBlock, ProviderError> {
        let mut tries = 0;
        let block = loop {
            match provider.light_block(height).await {
                Err(ProviderError::NoResponse) if tries < self.retries => tries += 1,
                other => break other?,
            }
        };
        block.check(&self.chain_id, height).map_err(|error| ProviderError::BadLightBlock(error.to_string()))
    }

    async fn target_or_latest(&self, provider: &Provider, height: i64) -> Result<Latest, ProviderError> {
        let latest = self.fetch(provider, 0).await?;
        if latest.height() == height {
            Ok(Latest::Target(latest))
        } else if latest.height() > height {
            self.fetch(provider, height).await.map(Latest::Target)
        } else {
            Ok(Latest::Behind(latest))
        }
    }

    async fn ask(&self, witness: &Provider, verified: &LightBlock) -> Answer {
        match self.fetch(witness, verified.height()).await {
            Ok(block) => judge(verified, block),
            Err(ProviderError::HeightTooHigh(_)) => self.ask_behind(witness, verified).await,
            Err(ProviderError::BadLightBlock(reason)) => Answer::Bad(reason),
            Err(other) => Answer::None(other),
        }
    }

    /// The witness says that it is not that far: it may get there, or its newest block tells that it lies.
    async fn ask_behind(&self, witness: &Provider, verified: &LightBlock) -> Answer {
        for last in [false, true] {
            match self.target_or_latest(witness, verified.height()).await {
                Ok(Latest::Target(block)) => return judge(verified, block),
                Ok(Latest::Behind(latest)) if conflicts_by_time(verified, &latest) => {
                    return Answer::Conflict(Box::new(latest));
                }
                Ok(Latest::Behind(_)) => {}
                Err(ProviderError::BadLightBlock(reason)) => return Answer::Bad(reason),
                Err(error) => return Answer::None(error),
            }
            if !last {
                tokio::time::sleep(self.patience).await;
            }
        }
        Answer::None(ProviderError::NoResponse)
    }
}

fn judge(verified: &LightBlock, block: LightBlock) -> Answer {
    match compare(verified, &block) {
        Comparison::Match => Answer::Match,
        Comparison::Conflict => Answer::Conflict(Box::new(block)),
        Comparison::PrioritiesDiverge => Answer::Priorities,
    }
}

impl LightClient {
    pub(super) fn asker(&self) -> Asker {
        let drift = u64::try_from(self.config.policy.max_clock_drift.nanos()).unwrap_or_default();
        let patience = std::time::Duration::from_nanos(drift.saturating_mul(2)) + self.config.max_block_lag;
        Asker { chain_id: Arc::from(self.chain_id.as_str()), retries: self.config.retries, patience }
    }

    /// Asks every witness for its version of a verified block.
    async fn ask_all(&self, verified: &LightBlock) -> Vec<(Provider, Answer)> {
        let witnesses = self.witnesses();
        let verified = Arc::new(verified.clone());
        let work = witnesses.iter().map(|witness| {
            let (asker, witness, verified) = (self.asker(), Arc::clone(witness), Arc::clone(&verified));
            async move { asker.ask(&witness, &verified).await }
        });
        let answers = side_by_side(work.collect()).await;
        let none = || Answer::None(ProviderError::NoResponse);
        witnesses.into_iter().zip(answers).map(|(witness, answer)| (witness, answer.unwrap_or_else(none))).collect()
    }

    /// The witnesses' word on the block that everything is trusted from: none may contradict, all may be silent.
    pub(super) async fn confirm_first(&self, block: &LightBlock) -> Result<(), LightClientError> {
        for (_, answer) in self.ask_all(block).await {
            match answer {
                Answer::Match => {}
                Answer::Conflict(_) => return Err(LightClientError::TrustConflict(block.height())),
                Answer::Priorities => return Err(LightClientError::Priorities(block.height())),
                Answer::None(error) => tracing::info!(%error, "witness does not tell its trusted header"),
                Answer::Bad(reason) => tracing::warn!(reason, "witness sent a bad light block"),
            }
        }
        Ok(())
    }

    /// The witnesses' word on the end of a verified trace: one must agree, and a conflict is an attack if the witness
    /// can prove its side.
    pub(super) async fn detect(&self, primary: &Provider, trace: Vec<LightBlock>) -> Result<(), LightClientError> {
        let Some(last) = trace.last().filter(|_| trace.len() > 1) else {
            return Ok(());
        };
        let height = last.height();
        let mut matched = false;
        let answers = self.ask_all(last).await;
        for (witness, answer) in answers {
            match answer {
                Answer::Match => matched = true,
                Answer::Conflict(block) => self.examine(primary, &witness, &trace, *block).await?,
                Answer::Priorities => return Err(LightClientError::Priorities(height)),
                Answer::None(error) => tracing::info!(height, %error, "witness does not tell its header"),
                Answer::Bad(reason) => tracing::warn!(height, reason, "witness sent a bad light block"),
            }
        }
        if matched { Ok(()) } else { Err(LightClientError::NotConfirmed(height)) }
    }

    /// A witness has another block. If it can prove it from the common trusted one, this is an attack: each side gets the
    /// evidence against the other.
    async fn examine(
        &self,
        primary: &Provider,
        witness: &Provider,
        trace: &[LightBlock],
        block: LightBlock,
    ) -> Result<(), LightClientError> {
        let Some(divergence) = self.walk(witness, trace.to_vec(), block).await else {
            return Ok(());
        };
        let height = divergence.divergent.height();
        self.send_evidence(witness, &divergence).await;
        let Divergence { source_trace, divergent } = divergence;
        if let Some(reverse) = self.walk(primary, source_trace, divergent).await {
            self.send_evidence(primary, &reverse).await;
        }
        Err(LightClientError::Attack(height))
    }

    /// Where `trace` and `source`, which has `target` instead of its end, part; `None` if `source` cannot prove its side.
    async fn walk(&self, source: &Provider, trace: Vec<LightBlock>, target: LightBlock) -> Option<Divergence> {
        let asker = self.asker();
        let mut fetches = Fetches { left: self.config.max_fetches, most: self.config.max_fetches };
        let walked = async {
            let mut examination =
                TraceExamination::new(trace, target, self.config.policy).map_err(|error| error.to_string())?;
            loop {
                match examination.step(self.clock.now()).map_err(|error| error.to_string())? {
                    ExamineStep::Done(divergence) => return Ok::<_, String>(*divergence),
                    ExamineStep::Fetch(height) => {
                        fetches.take().map_err(|error| error.to_string())?;
                        let block = asker.fetch(source, height).await.map_err(|error| error.to_string())?;
                        examination.provide(block).map_err(|error| error.to_string())?;
                    }
                }
            }
        };
        match walked.await {
            Ok(divergence) => Some(divergence),
            Err(reason) => {
                tracing::warn!(reason, "provider cannot prove its divergent header");
                None
            }
        }
    }

    /// Sends evidence against the examined trace's signers to the provider that has the other chain.
    async fn send_evidence(&self, to: &Provider, divergence: &Divergence) {
        let Divergence { source_trace, divergent } = divergence;
        let (Some(common), Some(trusted)) = (source_trace.first(), source_trace.last()) else {
            return;
        };
        match attack_evidence(divergent, trusted, common) {
            Ok(evidence) => {
                tracing::error!(height = divergent.height(), "attack on this light client detected");
                let sum = Some(EvidenceSum::LightClientAttack(Box::new(evidence)));
                if let Err(error) = to.report(Evidence { sum }).await {
                    tracing::warn!(%error, "evidence could not be reported");
                }
            }
            Err(error) => tracing::warn!(%error, "no evidence can be made"),
        }
    }
}
