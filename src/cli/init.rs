//! `exactlyonce init`

use std::collections::BTreeMap;

use clap::Args;

use super::Context;
use super::failure::{Code, Failure};
use super::output::{Output, listed};
use super::services::{self, with_broker, with_store};
use crate::binding::{self, Initialized, Origin};
use crate::broker::Broker;
use crate::store::Store;

/// Applies the schema and binds the keyspace to the topic.
///
/// The content of the tables depends on the log and on a few parameters: the topic's id, the windows, the
/// threshold, the levels that count, max_mutation_bytes, and where each partition starts. `init` writes them
/// once; `run` checks them and never writes them. Repeated with the same parameters, it completes an interrupted
/// earlier call and changes nothing else; with other parameters it is refused (exit code 3).
///
/// Before it binds, it checks what the guarantee requires of Kafka and Cassandra, as far as they report it, and prints
/// each finding: ok, warning, unchecked (it could not be checked), or refused (nothing is bound, exit code 3).
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  exactlyonce init
  exactlyonce init --from end           only what comes from now on
  exactlyonce init --from 0=1200,2=900  partition 1 starts at its log's start")]
pub(super) struct Arguments {
    /// Where to start: start, end, or an offset for some partitions
    #[arg(long, value_name = "start|end|P=OFFSET,...", value_parser = origin)]
    from: Option<Origin>,
}

fn origin(text: &str) -> Result<Origin, String> {
    match text {
        "start" => return Ok(Origin::Start),
        "end" => return Ok(Origin::End),
        _ => {}
    }
    let mut offsets = BTreeMap::new();
    for part in text.split(',') {
        let parsed = part.split_once('=').and_then(|(partition, offset)| {
            let partition: i32 = partition.trim().parse().ok()?;
            let offset: i64 = offset.trim().parse().ok()?;
            (partition >= 0 && offset >= 0).then_some((partition, offset))
        });
        let (partition, offset) =
            parsed.ok_or_else(|| format!("{part:?} is not start, end or PARTITION=OFFSET"))?;
        if offsets.insert(partition, offset).is_some() {
            return Err(format!("partition {partition} comes twice"));
        }
    }
    Ok(Origin::Offsets(offsets))
}

pub(super) async fn run(arguments: Arguments, context: &Context) -> Result<Code, Failure> {
    let settings = context.start()?;
    let asked = arguments.from.is_some();
    let origin = arguments.from.unwrap_or_default();
    let mut output = Output::stdout();
    let initialized: Initialized = with_broker!(&settings, |broker| {
        // After the broker, so that nothing is created if there is no log.
        services::apply_schema(&settings).await?;
        output.line(format_args!("the schema is applied to {}", services::store_name(&settings)))?;
        with_store!(&settings, |store| {
            let mut findings = broker.guarantees(&settings.topic).await?;
            let of_store = store.guarantees().await.into_result();
            findings.extend(of_store.map_err(Failure::store("check what the guarantee requires"))?);
            output.findings(&findings)?;
            let refused = findings.iter().filter(|finding| finding.verdict.is_refused()).count();
            if refused > 0 {
                output.finish()?;
                return Err(Failure::Guarantee { refused });
            }
            Ok::<_, Failure>(binding::init(&broker, &store, &settings.binding_spec(), &origin).await?)
        })
    })?;
    let Initialized { binding, new } = initialized;
    let keyspace = &settings.store.keyspace;
    let bound = if new { "is now bound" } else { "was already bound" };
    output.line(format_args!(
        "keyspace {keyspace} {bound} to topic {}, id {}",
        binding.topic, binding.topic_id
    ))?;
    let window = &binding.window;
    output.line(format_args!(
        "windows of {} ms every {} ms; an alert from {} events on, counting {}",
        window.size_ms,
        window.slide_ms,
        window.threshold,
        listed(window.health.levels().map(|level| format!("{level:?}").to_lowercase())),
    ))?;
    for (partition, origin) in &binding.origins {
        output.line(format_args!("partition {partition} starts at offset {origin}"))?;
    }
    if !new && asked {
        output.line("--from has no effect: the first init decided where the partitions start")?;
    }
    output.finish()?;
    Ok(Code::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_a_keyword_or_offsets_by_partition() {
        assert_eq!(origin("start"), Ok(Origin::Start));
        assert_eq!(origin("end"), Ok(Origin::End));
        assert_eq!(origin("0=5, 2=7"), Ok(Origin::Offsets([(0, 5), (2, 7)].into())));
        for bad in ["", "begin", "0", "0=", "=1", "0=x", "-1=0", "0=-1", "0=1,", "0=1,0=2"] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
