//! Creates a session from the options.

use std::sync::Arc;
use std::time::Duration;

use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError,
};
use scylla::frame::Compression as DriverCompression;
use scylla::frame::types::{Consistency as Level, SerialConsistency};
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::FallthroughRetryPolicy;
use tokio::time::timeout;

use super::error::{ConnectError, DriverError};
use super::outcomes::NO_LOOK_UP;
use super::statements::Statements;
use super::{CassandraOptions, Compression, Consistency};
use crate::error::Cause;
use crate::store::{BoundConsistency, Layout};

/// Interval and timeout of the driver's keepalive requests. (With its defaults of 30 s each, a frozen node would get
/// requests for a minute.)
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of schema agreement.
const SCHEMA_AGREEMENT_TIMEOUT: Duration = Duration::from_secs(20);

/// The consistency, as the binding records it.
pub(super) fn consistency(options: &CassandraOptions) -> Result<BoundConsistency, ConnectError> {
    match (options.consistency, &options.datacenter) {
        (Consistency::Quorum, _) => Ok(BoundConsistency::Quorum),
        (Consistency::LocalQuorum, Some(name)) if !name.is_empty() => {
            Ok(BoundConsistency::LocalQuorum { datacenter: name.clone() })
        }
        (Consistency::LocalQuorum, _) => {
            let what = "consistency local_quorum requires the name of the datacenter";
            Err(ConnectError::refused(options, what, None))
        }
    }
}

/// Opens a session.
pub(super) async fn session(options: &CassandraOptions) -> Result<Session, ConnectError> {
    let local = consistency(options)? != BoundConsistency::Quorum;
    if options.contact_points.is_empty() {
        return Err(ConnectError::refused(options, "there are no contact points", None));
    }
    let mut balancing = DefaultPolicy::builder().token_aware(true);
    if let Some(datacenter) = &options.datacenter {
        // A quorum is one of all replicas, whichever node coordinates. A local quorum is one of the coordinator's
        // datacenter, so the coordinator must not be in a different one.
        balancing = balancing.prefer_datacenter(datacenter.clone()).permit_dc_failover(!local);
    }
    let profile = ExecutionProfile::builder()
        .consistency(if local { Level::LocalQuorum } else { Level::Quorum })
        // Only the binding is written conditionally; of two `init`s in different datacenters, one must win.
        .serial_consistency(Some(SerialConsistency::Serial))
        .request_timeout(Some(options.request_timeout))
        .load_balancing_policy(balancing.build())
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .speculative_execution_policy(None)
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.contact_points)
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(options.connect_timeout)
        .hostname_resolution_timeout(Some(options.connect_timeout))
        .keepalive_interval(KEEPALIVE_INTERVAL)
        .keepalive_timeout(KEEPALIVE_TIMEOUT)
        .schema_agreement_timeout(SCHEMA_AGREEMENT_TIMEOUT)
        .metadata_request_serverside_timeout(options.request_timeout)
        .metadata_request_clientside_timeout(options.request_timeout + Duration::from_secs(1))
        // The driver needs its metadata only to find the replicas of rows.
        .keyspaces_to_fetch([options.keyspace.as_str()])
        .fetch_full_schema_metadata(false)
        .driver_config_reporting(false)
        .compression(match options.compression {
            Compression::None => None,
            Compression::Lz4 => Some(DriverCompression::Lz4),
            Compression::Snappy => Some(DriverCompression::Snappy),
        });
    if let Some(credentials) = &options.credentials {
        builder = builder.user(&credentials.username, credentials.password.expose());
    }
    if let Some(tls) = &options.tls {
        builder =
            encrypted(builder, tls).map_err(|(what, cause)| ConnectError::refused(options, what, cause))?;
    }
    let deadline = options.connect_timeout.saturating_mul(2).saturating_add(options.request_timeout);
    let Ok(built) = timeout(deadline, builder.build()).await else {
        return Err(ConnectError::not_in_time(options, "connect", deadline));
    };
    let session = built.map_err(|error| match refusal(&error) {
        Some(what) => ConnectError::refused(options, what, Some(DriverError::new(error).into())),
        None => ConnectError::unavailable(options, "connect", DriverError::new(error)),
    })?;
    if let Some(datacenter) = &options.datacenter {
        let state = session.get_cluster_state();
        let all = state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref());
        let all: std::collections::BTreeSet<&str> = all.collect();
        if !all.contains(datacenter.as_str()) {
            let all: Vec<&str> = all.into_iter().collect();
            let what = format!("datacenter {datacenter} does not exist; the cluster has {}", all.join(", "));
            return Err(ConnectError::refused(options, what, None));
        }
    }
    Ok(session)
}

type NotEncrypted = (String, Option<Cause>);

#[cfg(feature = "tls")]
fn encrypted(builder: SessionBuilder, tls: &super::Tls) -> Result<SessionBuilder, NotEncrypted> {
    let context = super::tls::context(tls).map_err(|(what, error)| (what, Some(error.into())))?;
    Ok(builder.tls_context(Some(context)))
}

#[cfg(not(feature = "tls"))]
fn encrypted(_: SessionBuilder, _: &super::Tls) -> Result<SessionBuilder, NotEncrypted> {
    Err(("TLS is configured, but this program was built without the feature `tls`".to_owned(), None))
}

/// Why a retry cannot help: the cluster rejects this client, or a certificate is invalid; `None` for other errors.
fn refusal(error: &NewSessionError) -> Option<&'static str> {
    match error {
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => {
            Some("the driver rejected the options")
        }
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
        })) => refused_connection(last_connection_error),
        _ => None,
    }
}

fn refused_connection(error: &ConnectionError) -> Option<&'static str> {
    match error {
        ConnectionError::ConnectionSetupRequestError(error) => match error.get_error() {
            ConnectionSetupRequestErrorKind::MissingAuthentication => {
                Some("the server requires authentication")
            }
            // The credentials could not be checked, so a retry may succeed.
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, message)
                if message.to_ascii_lowercase().starts_with(NO_LOOK_UP) =>
            {
                None
            }
            ConnectionSetupRequestErrorKind::DbError(DbError::AuthenticationError, _)
            | ConnectionSetupRequestErrorKind::DbError(DbError::Unauthorized, _)
            | ConnectionSetupRequestErrorKind::StartAuthSessionError(_)
            | ConnectionSetupRequestErrorKind::AuthChallengeEvaluationError(_)
            | ConnectionSetupRequestErrorKind::AuthFinishError(_) => Some("authentication failed"),
            _ => None,
        },
        #[cfg(feature = "tls")]
        ConnectionError::IoError(error) if super::tls::is_refusal(error) => Some("TLS verification failed"),
        _ => None,
    }
}

/// Prepares the statements, with a timeout for each.
pub(super) async fn prepare(
    session: &Session,
    options: &CassandraOptions,
    layout: Layout,
) -> Result<Statements, ConnectError> {
    let what = "prepare the statements";
    let prepare = async |cql: String| {
        // Without the timeout, the driver would wait indefinitely for every node that it has a connection to.
        let Ok(prepared) = timeout(options.request_timeout, session.prepare(cql.clone())).await else {
            return Err(ConnectError::not_in_time(options, what, options.request_timeout));
        };
        prepared.map_err(|error: PrepareError| {
            ConnectError::of_request(options, &format!("prepare {cql:?}"), &ExecutionError::from(error))
        })
    };
    Statements::prepare(&options.keyspace, layout.events, prepare).await
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::store::cql::Keyspace;

    /// The refusal of a session whose last connection ended like this.
    fn of_connection(error: ConnectionError) -> Option<&'static str> {
        let broken = ConnectionPoolError::Broken { last_connection_error: error };
        refusal(&NewSessionError::MetadataError(MetadataError::ConnectionPoolError(broken)))
    }

    #[test]
    fn options_that_the_driver_rejects_are_refused() {
        let rejected = Some("the driver rejected the options");
        assert_eq!(refusal(&NewSessionError::EmptyKnownNodesList), rejected);
        assert_eq!(refusal(&NewSessionError::IllegalConfig("why".into())), rejected);
    }

    #[test]
    fn a_connection_that_breaks_is_not_refused() {
        let unknown = NewSessionError::FailedToResolveAnyHostname(vec!["a".to_owned()]);
        assert_eq!(refusal(&unknown), None);
        assert_eq!(of_connection(ConnectionError::ConnectTimeout), None);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(of_connection(ConnectionError::IoError(Arc::new(reset))), None);
    }

    #[cfg(feature = "tls")]
    #[test]
    fn an_error_of_tls_refuses_a_connection() {
        let error = io::Error::other(openssl::error::ErrorStack::get());
        let refused = of_connection(ConnectionError::IoError(Arc::new(error)));
        assert_eq!(refused, Some("TLS verification failed"));
    }

    #[cfg(feature = "tls")]
    #[tokio::test]
    async fn a_file_for_tls_that_cannot_be_used_is_refused_before_any_connection() {
        let keyspace = Keyspace::try_from("k".to_owned()).unwrap();
        let tls = super::super::Tls { ca_file: Some("/a/missing/file".into()), ..Default::default() };
        let options = CassandraOptions {
            tls: Some(tls),
            ..CassandraOptions::new(vec!["127.0.0.1:1".to_owned()], keyspace)
        };
        match session(&options).await {
            Err(ConnectError::Refused { what, .. }) => {
                assert_eq!(what, "CA file /a/missing/file cannot be used");
            }
            other => panic!("{:?}", other.map(drop)),
        }
    }

    #[test]
    fn a_local_quorum_is_one_of_a_datacenter_that_has_a_name() {
        let of = |consistency_of_options, datacenter: Option<&str>| {
            let keyspace = Keyspace::try_from("k".to_owned()).unwrap();
            consistency(&CassandraOptions {
                consistency: consistency_of_options,
                datacenter: datacenter.map(str::to_owned),
                ..CassandraOptions::new(Vec::new(), keyspace)
            })
        };
        let local = |datacenter: &str| BoundConsistency::LocalQuorum { datacenter: datacenter.to_owned() };
        assert_eq!(of(Consistency::LocalQuorum, Some("oslo")).unwrap(), local("oslo"));
        for datacenter in [None, Some("")] {
            assert!(matches!(of(Consistency::LocalQuorum, datacenter), Err(ConnectError::Refused { .. })));
        }
        // The datacenter is only preferred.
        for datacenter in [None, Some(""), Some("oslo")] {
            assert_eq!(of(Consistency::Quorum, datacenter).unwrap(), BoundConsistency::Quorum);
        }
    }
}
