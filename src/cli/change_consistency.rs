//! `exactlyonce change-consistency`

use clap::Args;

use super::Context;
use super::failure::{Code, Failure};
use crate::binding::BoundConsistency;
use crate::config::StoreKind;

/// Changes the consistency or datacenter that a keyspace is bound to.
///
/// All workers of a keyspace must read and write at the same consistency and, with local_quorum, in the same
/// datacenter, or they miss each other's counts. So both are bound by `init`, and every command refuses a
/// configuration with other values (exit code 3). This command changes the binding from the value of --from to that of
/// the configuration (cassandra.consistency, cassandra.datacenter).
///
/// Before it:
///   1. Stop all workers of the keyspace, in every datacenter, and start none until it is done.
///   2. Repair the whole keyspace (`nodetool repair -full KEYSPACE` on every node). Until then the replicas that are
///      read from now on may lack acknowledged rows, and counts would start again from zero.
///
/// All replicas must be available. It may be repeated: if the outcome of an attempt is not known, run it again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  exactlyonce change-consistency --from local_quorum:oslo --workers-are-stopped --keyspace-is-repaired
  exactlyonce change-consistency --from quorum --workers-are-stopped --keyspace-is-repaired")]
pub(super) struct Arguments {
    /// What the keyspace is currently bound to
    #[arg(long, value_name = "quorum|local_quorum:DATACENTER")]
    from: BoundConsistency,
    /// Confirms that no worker of the keyspace runs, in any datacenter
    #[arg(long)]
    workers_are_stopped: bool,
    /// Confirms that the whole keyspace has been repaired since the workers were stopped
    #[arg(long)]
    keyspace_is_repaired: bool,
}

impl Arguments {
    fn confirmed(&self) -> Result<(), Failure> {
        let missing = match (self.workers_are_stopped, self.keyspace_is_repaired) {
            (true, true) => return Ok(()),
            (false, _) => "stop all workers of the keyspace, then confirm it with --workers-are-stopped",
            (true, false) => {
                "repair the whole keyspace (`nodetool repair -full` on every node), then confirm it with \
                 --keyspace-is-repaired"
            }
        };
        Err(Failure::Usage(format!("nothing was changed. first {missing}")))
    }
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let settings = context.start()?;
    if settings.store.kind != StoreKind::Cassandra {
        let what = "the embedded store has one copy of everything: there is no consistency to change";
        return Err(Failure::Usage(what.to_owned()));
    }
    arguments.confirmed()?;
    #[cfg(feature = "cassandra")]
    return change(arguments.from, &settings).await;
    #[cfg(not(feature = "cassandra"))]
    Err(super::services::NO_CASSANDRA)
}

#[cfg(feature = "cassandra")]
async fn change(from: BoundConsistency, settings: &crate::config::Settings) -> Result<Code, Failure> {
    use super::output::Output;
    use super::services;
    use crate::binding::BindingError;
    use crate::store::Store;
    use crate::store::cassandra::Changed;
    let mut output = Output::stdout();
    let store = services::cassandra_store(settings).await?;
    let (keyspace, to) = (store.keyspace(), store.consistency());
    let changed =
        store.change_consistency(&from).await.into_result().map_err(Failure::store("change the binding"))?;
    match changed {
        Changed::Now => output.line(format_args!("keyspace {keyspace} is now bound to consistency {to}"))?,
        Changed::Before => output.line(format_args!(
            "keyspace {keyspace} was already bound to consistency {to}; every replica has it"
        ))?,
        Changed::Not(bound) => return Err(BindingError::NotFrom { bound, from }.into()),
        Changed::Unbound => return Err(BindingError::Unbound { topic: settings.topic.clone() }.into()),
    }
    output.finish()?;
    Ok(Code::Fine)
}
