//! What users are verified with by SCRAM: described by any broker, changed by the controller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::Broker;
use crate::controller::{ControlRequest, ControlResponse};
use crate::error::ErrorCode;
use crate::protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use crate::protocol::messages::describe_user_scram_credentials_response::{
    CredentialInfo, DescribeUserScramCredentialsResult,
};
use crate::protocol::messages::{
    AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse, DescribeUserScramCredentialsRequest,
    DescribeUserScramCredentialsResponse,
};
use crate::protocol::text;

const WAIT: Duration = Duration::from_secs(30);

/// `ScramImage.describe`
pub(super) async fn describe(
    broker: &Arc<Broker>,
    request: DescribeUserScramCredentialsRequest,
    _version: i16,
) -> DescribeUserScramCredentialsResponse {
    let image = broker.image();
    // How often each user is asked for.
    let mut users: BTreeMap<&str, usize> = BTreeMap::new();
    match request.users.as_ref().filter(|users| !users.is_empty()) {
        Some(asked) => asked.iter().for_each(|user| *users.entry(user.name.as_str()).or_default() += 1),
        None => users.extend(image.credentials.keys().map(|(user, _)| (user.as_str(), 1))),
    }
    let results = users.into_iter().map(|(user, times)| {
        let result = DescribeUserScramCredentialsResult::default().with_user(text(user));
        let refuse = |error: ErrorCode, message: &str| {
            let message = text(&format!("{message}: {user}"));
            result.clone().with_error_code(error.code()).with_error_message(Some(message))
        };
        if times > 1 {
            return refuse(
                ErrorCode::DuplicateResource,
                "Cannot describe SCRAM credentials for the same user twice in a single request",
            );
        }
        let known = image.credentials.iter().filter(|((name, _), _)| name == user);
        let infos = known.map(|((_, hash), credential)| {
            CredentialInfo::default().with_mechanism(hash.number()).with_iterations(credential.iterations)
        });
        let infos: Vec<_> = infos.collect();
        if infos.is_empty() {
            return refuse(
                ErrorCode::ResourceNotFound,
                "Attempt to describe a user credential that does not exist",
            );
        }
        result.with_credential_infos(infos)
    });
    DescribeUserScramCredentialsResponse::default().with_results(results.collect())
}

pub(super) async fn alter(
    broker: &Arc<Broker>,
    request: AlterUserScramCredentialsRequest,
    _version: i16,
) -> AlterUserScramCredentialsResponse {
    let deleted = request.deletions.iter().map(|deletion| deletion.name.clone());
    let upserted = request.upsertions.iter().map(|upsertion| upsertion.name.clone());
    let users: Vec<_> = deleted.chain(upserted).collect();
    match broker.ask_controller(ControlRequest::AlterCredentials(request), WAIT).await {
        Ok(ControlResponse::AlterCredentials(response)) => response,
        other => {
            let error = other.err().unwrap_or(ErrorCode::UnknownServerError).code();
            let results = users.into_iter().map(|user| {
                AlterUserScramCredentialsResult::default().with_user(user).with_error_code(error)
            });
            AlterUserScramCredentialsResponse::default().with_results(results.collect())
        }
    }
}
