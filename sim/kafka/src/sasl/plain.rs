//! PLAIN: the client sends its name and its password (`PlainSaslServer`).

use super::{Refusal, Users};

/// The user whose name and password a token has.
pub(super) fn verify(token: &[u8], users: &impl Users) -> Result<String, Refusal> {
    let shown = |message: &str| Refusal::Shown(message.to_owned());
    let token = String::from_utf8_lossy(token);
    // Kafka stops at the fourth.
    let parts: Vec<&str> = token.split('\0').take(4).collect();
    let [authorization, name, password] = parts[..] else {
        let message = format!("Invalid SASL/PLAIN response: expected 3 tokens, got {}", parts.len());
        return Err(Refusal::Shown(message));
    };
    if name.is_empty() {
        return Err(shown("Authentication failed: username not specified"));
    }
    if password.is_empty() {
        return Err(shown("Authentication failed: password not specified"));
    }
    if users.password(name) != Some(password) {
        return Err(shown("Authentication failed: Invalid username or password"));
    }
    if !authorization.is_empty() && authorization != name {
        return Err(shown(
            "Authentication failed: Client requested an authorization id that is different from username",
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::{Credential, Hash};
    use super::*;

    struct Anna;

    impl Users for Anna {
        fn password(&self, name: &str) -> Option<&str> {
            (name == "anna").then_some("pencil")
        }

        fn credential(&self, _hash: Hash, _name: &str) -> Option<Credential> {
            None
        }

        fn nonce(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn a_user_is_verified_by_name_and_password() {
        assert_eq!(verify(b"\0anna\0pencil", &Anna).as_deref(), Ok("anna"));
        assert_eq!(verify(b"anna\0anna\0pencil", &Anna).as_deref(), Ok("anna"));
    }

    #[test]
    fn a_token_that_is_wrong_is_refused_with_the_reason() {
        for (token, reason) in [
            (&b"\0anna\0pen"[..], "Invalid username or password"),
            (b"\0nobody\0pencil", "Invalid username or password"),
            (b"\0\0pencil", "username not specified"),
            (b"\0anna\0", "password not specified"),
            (b"otto\0anna\0pencil", "different from username"),
            (b"", "expected 3 tokens, got 1"),
            (b"anna\0pencil", "expected 3 tokens, got 2"),
            (b"\0anna\0pencil\0more\0", "expected 3 tokens, got 4"),
        ] {
            let refused = verify(token, &Anna).unwrap_err().to_string();
            assert!(refused.contains(reason), "{token:?}: {refused}");
        }
    }
}
