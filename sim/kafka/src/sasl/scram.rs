//! SCRAM: the client proves that it knows the password, and the broker that it knows the user (`ScramSaslServer`).
//!
//! Messages are read by the patterns of Kafka's `ScramMessages`. As in Kafka, extensions are ignored and the channel
//! binding is not verified.

use std::fmt;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use regex::Regex;
use sha2::{Digest, Sha256, Sha512};

use super::{Challenge, Refusal, Users};

/// The fewest iterations that a credential may have, and how many those have that a cluster starts with
/// (`ScramMechanism.minIterations`).
pub(crate) const MIN_ITERATIONS: i32 = 4096;

/// As Java's decoder, which does not look at the bits that are left over.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// The hash function of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// Both.
    pub(crate) const ALL: [Hash; 2] = [Hash::Sha256, Hash::Sha512];

    /// The number of its mechanism in requests (`ScramMechanism.type`).
    pub(crate) fn number(self) -> i8 {
        match self {
            Self::Sha256 => 1,
            Self::Sha512 => 2,
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => mac::<Hmac<Sha256>>(key, data),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, data),
        }
    }

    fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let password = password.as_bytes();
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations).to_vec(),
            Self::Sha512 => pbkdf2::pbkdf2_hmac_array::<Sha512, 64>(password, salt, iterations).to_vec(),
        }
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
    let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().to_vec()
}

/// What a user is verified with, in place of the password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    pub(crate) salt: Bytes,
    pub(crate) stored_key: Vec<u8>,
    pub(crate) server_key: Vec<u8>,
    pub(crate) iterations: i32,
}

impl Credential {
    /// That of a password. Kafka does not normalize passwords.
    pub(crate) fn of(hash: Hash, password: &str, salt: Bytes) -> Self {
        let salted = hash.salted(password, &salt, MIN_ITERATIONS.unsigned_abs());
        Self::of_salted(hash, &salted, salt, MIN_ITERATIONS)
    }

    /// That of a password to which the iterations were applied.
    pub(crate) fn of_salted(hash: Hash, salted: &[u8], salt: Bytes, iterations: i32) -> Self {
        let stored_key = hash.digest(&hash.hmac(salted, b"Client Key"));
        Self { salt, stored_key, server_key: hash.hmac(salted, b"Server Key"), iterations }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

const NAME: &str = r"(?:[\x01-\x7F&&[^=,]]|=2C|=3D)+";
const PRINTABLE: &str = r"[\x21-\x7E&&[^,]]+";
const VALUE: &str = r"[\x01-\x7F&&[^,]]+";
const BASE64_TEXT: &str = "(?:[a-zA-Z0-9/+]{4})*(?:[a-zA-Z0-9/+]{3}=|[a-zA-Z0-9/+]{2}==)?";

static CLIENT_FIRST: LazyLock<Regex> = LazyLock::new(|| {
    let extensions = format!("(?:,[A-Za-z]+={VALUE})*");
    pattern(&format!(
        "n,(?:a=(?<authorization>{NAME}))?,(?:m={VALUE},)?n=(?<name>{NAME}),r=(?<nonce>{PRINTABLE})(?<extensions>{extensions})"
    ))
});

static CLIENT_FINAL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(&format!(
        "c=(?<binding>{BASE64_TEXT}),r=(?<nonce>{PRINTABLE})(?:,[A-Za-z]+={VALUE})*,p=(?<proof>{BASE64_TEXT})"
    ))
});

fn pattern(text: &str) -> Regex {
    Regex::new(&format!(r"\A(?:{text})\z")).expect("the pattern is well-formed")
}

/// One authentication.
#[derive(Debug)]
pub(crate) struct Exchange {
    hash: Hash,
    state: State,
}

#[derive(Debug)]
enum State {
    First,
    Final {
        user: String,
        credential: Credential,
        /// The nonces of both sides.
        nonce: String,
        /// The first messages of both sides, as they are signed.
        messages: String,
    },
    Over,
}

impl Exchange {
    pub(super) fn new(hash: Hash) -> Self {
        Self { hash, state: State::First }
    }

    pub(super) fn hash(&self) -> Hash {
        self.hash
    }

    pub(super) fn evaluate(&mut self, token: &[u8], users: &impl Users) -> Result<Challenge, Refusal> {
        let message = String::from_utf8_lossy(token);
        match std::mem::replace(&mut self.state, State::Over) {
            State::First => self.first(&message, users),
            State::Final { user, credential, nonce, messages } => {
                self.last(&message, user, &credential, &nonce, &messages)
            }
            State::Over => Err(Refusal::Hidden("the exchange is over")),
        }
    }

    fn first(&mut self, message: &str, users: &impl Users) -> Result<Challenge, Refusal> {
        let captures = CLIENT_FIRST.captures(message);
        let captures = captures.ok_or(Refusal::Hidden("the first message is malformed"))?;
        let part = |name: &str| captures.name(name).map_or("", |part| part.as_str());
        let (name, extensions) = (part("name"), part("extensions"));
        if extensions.split(',').any(|extension| extension == "tokenauth=true") {
            return Err(Refusal::Hidden("there are no delegation tokens"));
        }
        let user = name.replace("=2C", ",").replace("=3D", "=");
        let credential = users.credential(self.hash, &user);
        let credential = credential.ok_or(Refusal::Hidden("there is no such user"))?;
        let authorization = part("authorization");
        if !authorization.is_empty() && authorization != user {
            let message =
                "Authentication failed: Client requested an authorization id that is different from username";
            return Err(Refusal::Shown(message.to_owned()));
        }
        let nonce = format!("{}{}", part("nonce"), users.nonce());
        let challenge =
            format!("r={nonce},s={},i={}", BASE64.encode(&credential.salt), credential.iterations);
        let messages = format!("n={name},r={}{extensions},{challenge}", part("nonce"));
        self.state = State::Final { user, credential, nonce, messages };
        Ok(Challenge { token: challenge.into(), user: None })
    }

    fn last(
        &self,
        message: &str,
        user: String,
        credential: &Credential,
        nonce: &str,
        messages: &str,
    ) -> Result<Challenge, Refusal> {
        let malformed = Refusal::Hidden("the final message is malformed");
        let captures = CLIENT_FINAL.captures(message).ok_or_else(|| malformed.clone())?;
        let part = |name: &str| captures.name(name).map_or("", |part| part.as_str());
        if part("nonce") != nonce {
            return Err(Refusal::Hidden("the nonce is another one"));
        }
        let proof = BASE64.decode(part("proof")).map_err(|_| malformed)?;
        let signed = format!("{messages},c={},r={nonce}", part("binding"));
        let signature = self.hash.hmac(&credential.stored_key, signed.as_bytes());
        if proof.len() != signature.len() {
            return Err(Refusal::Hidden("the proof has another length"));
        }
        let client_key: Vec<u8> = proof.iter().zip(&signature).map(|(proof, sign)| proof ^ sign).collect();
        if self.hash.digest(&client_key) != credential.stored_key {
            return Err(Refusal::Hidden("the proof is wrong"));
        }
        let verifier = self.hash.hmac(&credential.server_key, signed.as_bytes());
        let token = format!("v={}", BASE64.encode(verifier)).into();
        Ok(Challenge { token, user: Some(user) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user and the salt of an example.
    struct Example {
        hash: Hash,
        user: &'static str,
        salt: &'static str,
        nonce: &'static str,
    }

    impl Users for Example {
        fn password(&self, _name: &str) -> Option<&str> {
            None
        }

        fn credential(&self, hash: Hash, name: &str) -> Option<Credential> {
            let salt = BASE64.decode(self.salt).unwrap();
            (hash == self.hash && name == self.user).then(|| Credential::of(hash, "pencil", salt.into()))
        }

        fn nonce(&self) -> String {
            self.nonce.to_owned()
        }
    }

    /// RFC 7677, section 3.
    const SHA_256: Example = Example {
        hash: Hash::Sha256,
        user: "user",
        salt: "W22ZaJ0SNY7soEsUEjb6gQ==",
        nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
    };
    const FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                         p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn evaluate(exchange: &mut Exchange, message: &str) -> Result<(String, Option<String>), Refusal> {
        let challenge = exchange.evaluate(message.as_bytes(), &SHA_256)?;
        Ok((String::from_utf8(challenge.token.to_vec()).unwrap(), challenge.user))
    }

    #[test]
    fn the_example_of_rfc_7677_is_verified() {
        let mut exchange = Exchange::new(Hash::Sha256);
        let first = evaluate(&mut exchange, FIRST).unwrap();
        let challenge =
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        assert_eq!(first, (challenge.to_owned(), None));
        let last = evaluate(&mut exchange, FINAL).unwrap();
        let verifier = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
        assert_eq!(last, (verifier.to_owned(), Some("user".to_owned())));
        assert!(matches!(evaluate(&mut exchange, FIRST), Err(Refusal::Hidden(_))), "it is over");
    }

    #[test]
    fn any_other_final_message_is_refused() {
        let wrong = |from: &str, to: &str| {
            let mut exchange = Exchange::new(Hash::Sha256);
            evaluate(&mut exchange, FIRST).unwrap();
            evaluate(&mut exchange, &FINAL.replace(from, to)).unwrap_err()
        };
        assert_eq!(wrong("p=dHzb", "p=dHzc"), Refusal::Hidden("the proof is wrong"));
        assert_eq!(wrong("c=biws", "c=biwt"), Refusal::Hidden("the proof is wrong"));
        assert_eq!(wrong("p=dHzb", "p="), Refusal::Hidden("the proof has another length"));
        assert_eq!(wrong("hNlF$k0", "hNlF$k1"), Refusal::Hidden("the nonce is another one"));
        assert_eq!(wrong("p=", "q="), Refusal::Hidden("the final message is malformed"));
    }

    #[test]
    fn a_first_message_of_another_user_or_in_another_format_is_refused() {
        let refused = |message: &str| evaluate(&mut Exchange::new(Hash::Sha256), message).unwrap_err();
        assert_eq!(refused("n,,n=other,r=abc"), Refusal::Hidden("there is no such user"));
        assert_eq!(
            refused("n,,n=user,r=abc,tokenauth=true"),
            Refusal::Hidden("there are no delegation tokens")
        );
        // Channel binding is not supported.
        for message in ["", "n,,n=user", "p=tls-unique,,n=user,r=abc", "y,,n=user,r=abc", "n,,n=us=er,r=abc"]
        {
            assert_eq!(refused(message), Refusal::Hidden("the first message is malformed"), "{message}");
        }
        assert!(matches!(refused("n,a=other,n=user,r=abc"), Refusal::Shown(message)
            if message.contains("authorization id that is different")));
        let same = evaluate(&mut Exchange::new(Hash::Sha256), "n,a=user,n=user,r=abc,ext=1");
        assert!(same.is_ok_and(|(challenge, _)| challenge.starts_with("r=abc%hv")));
    }

    #[test]
    fn names_with_commas_and_equals_signs_are_unescaped_and_sha_512_has_keys_of_64_bytes() {
        let users = Example { hash: Hash::Sha512, user: "a,b=c", salt: "c2FsdA==", nonce: "n" };
        let mut exchange = Exchange::new(Hash::Sha512);
        let challenge = exchange.evaluate(b"n,,n=a=2Cb=3Dc,r=abc", &users).unwrap();
        assert_eq!(&challenge.token[..], b"r=abcn,s=c2FsdA==,i=4096");
        let credential = users.credential(Hash::Sha512, "a,b=c").unwrap();
        assert_eq!((credential.stored_key.len(), credential.server_key.len()), (64, 64));
    }
}
