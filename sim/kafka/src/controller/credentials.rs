//! What users are verified with by SCRAM (`ScramControlManager`).

use std::collections::BTreeMap;

use bytes::Bytes;
use rand_core::Rng as _;

use super::Controller;
use crate::error::ErrorCode;
use crate::metadata::Image;
use crate::protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use crate::protocol::messages::alter_user_scram_credentials_response::AlterUserScramCredentialsResult;
use crate::protocol::messages::{AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse};
use crate::protocol::text;
use crate::sasl::{Credential, Hash, MIN_ITERATIONS};

/// The most iterations that a credential may have (`ScramControlManager.MAX_ITERATIONS`).
const MAX_ITERATIONS: i32 = 16_384;

type Refusal = (ErrorCode, &'static str);

/// A change of a user.
#[derive(Clone, Copy)]
enum Change<'a> {
    Delete(&'a ScramCredentialDeletion),
    Upsert(&'a ScramCredentialUpsertion),
}

impl Controller {
    /// Adds the users that a cluster starts with, for all mechanisms.
    pub(crate) fn add_users(&mut self, users: &BTreeMap<String, String>) {
        for (name, password) in users {
            for hash in Hash::ALL {
                let mut salt = [0; 16];
                self.random.fill_bytes(&mut salt);
                let credential = Credential::of(hash, password, Bytes::copy_from_slice(&salt));
                self.change(|_, image| image.credentials.insert((name.clone(), hash), credential));
            }
        }
    }

    pub(super) fn alter_credentials(
        &mut self,
        request: &AlterUserScramCredentialsRequest,
    ) -> AlterUserScramCredentialsResponse {
        let deletions = request.deletions.iter().map(|change| (&change.name, Change::Delete(change)));
        let upsertions = request.upsertions.iter().map(|change| (&change.name, Change::Upsert(change)));
        let mut changes: BTreeMap<&str, Result<Change<'_>, Refusal>> = BTreeMap::new();
        let image = self.image();
        for (name, change) in deletions.chain(upsertions) {
            let planned = match changes.get(name.as_str()) {
                Some(Err(_)) => continue,
                Some(Ok(_)) => Err((
                    ErrorCode::DuplicateResource,
                    "A user credential cannot be altered twice in the same request",
                )),
                None => check(&image, change).map(|()| change),
            };
            changes.insert(name, planned);
        }
        self.change(|_, image| {
            for change in changes.values().filter_map(|change| change.as_ref().ok()) {
                apply(image, *change);
            }
        });
        let results = changes.iter().map(|(name, change)| {
            let result = AlterUserScramCredentialsResult::default().with_user(text(name));
            match change {
                Ok(_) => result,
                Err((error, message)) => {
                    result.with_error_code(error.code()).with_error_message(Some(text(message)))
                }
            }
        });
        AlterUserScramCredentialsResponse::default().with_results(results.collect())
    }
}

fn hash_of(number: i8) -> Option<Hash> {
    Hash::ALL.into_iter().find(|hash| hash.number() == number)
}

fn check(image: &Image, change: Change<'_>) -> Result<(), Refusal> {
    let (name, mechanism) = match change {
        Change::Delete(deletion) => (&deletion.name, deletion.mechanism),
        Change::Upsert(upsertion) => (&upsertion.name, upsertion.mechanism),
    };
    if name.is_empty() {
        return Err((ErrorCode::UnacceptableCredential, "Username must not be empty"));
    }
    let unknown = (ErrorCode::UnsupportedSaslMechanism, "Unknown SCRAM mechanism");
    let hash = hash_of(mechanism).ok_or(unknown)?;
    match change {
        Change::Delete(_) if !image.credentials.contains_key(&(name.to_string(), hash)) => {
            Err((ErrorCode::ResourceNotFound, "Attempt to delete a user credential that does not exist"))
        }
        Change::Upsert(upsertion) if upsertion.iterations < MIN_ITERATIONS => {
            Err((ErrorCode::UnacceptableCredential, "Too few iterations"))
        }
        Change::Upsert(upsertion) if upsertion.iterations > MAX_ITERATIONS => {
            Err((ErrorCode::UnacceptableCredential, "Too many iterations"))
        }
        _ => Ok(()),
    }
}

fn apply(image: &mut Image, change: Change<'_>) {
    match change {
        Change::Delete(deletion) => {
            if let Some(hash) = hash_of(deletion.mechanism) {
                image.credentials.remove(&(deletion.name.to_string(), hash));
            }
        }
        Change::Upsert(upsertion) => {
            if let Some(hash) = hash_of(upsertion.mechanism) {
                let (salt, salted) = (upsertion.salt.clone(), &upsertion.salted_password);
                let credential = Credential::of_salted(hash, salted, salt, upsertion.iterations);
                image.credentials.insert((upsertion.name.to_string(), hash), credential);
            }
        }
    }
}
