//! Certificates and keys.

use std::error::Error;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod};
use openssl::x509::store::X509StoreBuilder;
use scylla::client::session::TlsContext;

use super::Tls;

/// What failed, and OpenSSL's message.
type Wrong = (String, ErrorStack);

/// The TLS context of every connection. Nodes are always verified.
pub(super) fn context(tls: &Tls) -> Result<TlsContext, Wrong> {
    let openssl = |error| ("OpenSSL cannot be initialized".to_owned(), error);
    let file = |name: &'static str, path: &Path| {
        let what = format!("{name} {} cannot be used", path.display());
        move |error| (what, error)
    };
    let mut builder: SslConnectorBuilder = SslConnector::builder(SslMethod::tls_client()).map_err(openssl)?;
    // The system's authorities or the configured ones, instead of OpenSSL's default location, which depends on its
    // build.
    match &tls.ca_file {
        Some(path) => {
            let empty = X509StoreBuilder::new().map_err(openssl)?;
            builder.set_cert_store(empty.build());
            builder.set_ca_file(path).map_err(file("CA file", path))?;
        }
        None => {
            let found = openssl_probe::probe();
            let directory = found.cert_dir.first().map(|path| path.as_path());
            trust_system(&mut builder, found.cert_file.as_deref(), directory)?;
        }
    }
    if let Some(path) = &tls.certificate_file {
        builder.set_certificate_chain_file(path).map_err(file("certificate file", path))?;
    }
    if let Some(path) = &tls.key_file {
        builder.set_private_key_file(path, SslFiletype::PEM).map_err(file("key file", path))?;
    }
    if tls.certificate_file.is_some() || tls.key_file.is_some() {
        let what = "the key does not match the certificate";
        builder.check_private_key().map_err(|error| (what.to_owned(), error))?;
    }
    Ok(builder.into())
}

/// Trusts the authorities of the system, which are in this file, in this folder, or in both.
fn trust_system(
    builder: &mut SslConnectorBuilder,
    file: Option<&Path>,
    folder: Option<&Path>,
) -> Result<(), Wrong> {
    if file.is_none() && folder.is_none() {
        let what = "no certificates of trusted authorities were found on this system";
        return Err((what.to_owned(), ErrorStack::get()));
    }
    let loaded = builder.load_verify_locations(file, folder);
    loaded.map_err(|error| ("the certificates of this system cannot be used".to_owned(), error))
}

/// True if the connection failed because of TLS itself (a certificate is not trusted, has a different address, or is
/// missing on this side), not because it broke.
pub(super) fn is_refusal(error: &std::io::Error) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = error.get_ref().map(|error| error as _);
    while let Some(error) = cause {
        if error.is::<ErrorStack>() {
            return true;
        }
        if let Some(error) = error.downcast_ref::<openssl::ssl::Error>() {
            return error.ssl_error().is_some();
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::{env, fs, io, process};

    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;
    use openssl::x509::{X509, X509NameBuilder};

    use super::*;

    /// A folder with a certificate, its key, and another key; removed when it is dropped.
    struct Folder(PathBuf);

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    impl Folder {
        /// Its name has this word, so that tests may run at once.
        fn new(word: &str) -> Self {
            let folder = Self(env::temp_dir().join(format!("exactlyonce-tls-{word}-{}", process::id())));
            fs::create_dir_all(&folder.0).unwrap();
            let [key, other] = [(), ()].map(|()| PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap());
            let mut name = X509NameBuilder::new().unwrap();
            name.append_entry_by_text("CN", "client").unwrap();
            let name = name.build();
            let mut certificate = X509::builder().unwrap();
            certificate.set_subject_name(&name).unwrap();
            certificate.set_issuer_name(&name).unwrap();
            certificate.set_pubkey(&key).unwrap();
            certificate.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
            certificate.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
            certificate.sign(&key, MessageDigest::sha256()).unwrap();
            fs::write(folder.file("certificate"), certificate.build().to_pem().unwrap()).unwrap();
            fs::write(folder.file("key"), key.private_key_to_pem_pkcs8().unwrap()).unwrap();
            fs::write(folder.file("other"), other.private_key_to_pem_pkcs8().unwrap()).unwrap();
            folder
        }

        fn file(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }

        /// What is wrong with these files.
        fn wrong(&self, ca: &str, certificate: Option<&str>, key: Option<&str>) -> Option<String> {
            let file = |name: &str| self.file(name);
            let tls = Tls {
                ca_file: Some(file(ca)),
                certificate_file: certificate.map(file),
                key_file: key.map(file),
            };
            context(&tls).err().map(|(what, _)| what.replace(&self.0.display().to_string(), ""))
        }
    }

    #[test]
    fn a_certificate_needs_its_key_and_every_file_must_be_usable() {
        let folder = Folder::new("files");
        assert_eq!(folder.wrong("certificate", None, None), None);
        assert_eq!(folder.wrong("certificate", Some("certificate"), Some("key")), None);
        let differ = Some("the key does not match the certificate".to_owned());
        assert_eq!(folder.wrong("certificate", Some("certificate"), None), differ);
        assert_eq!(folder.wrong("certificate", None, Some("key")), differ);
        let unusable = |what: &str| Some(format!("{what} cannot be used"));
        assert_eq!(folder.wrong("missing", None, None), unusable("CA file /missing"));
        assert_eq!(folder.wrong("certificate", Some("key"), Some("key")), unusable("certificate file /key"));
        assert_eq!(
            folder.wrong("certificate", Some("certificate"), Some("other")),
            unusable("key file /other"),
            "the key of another certificate"
        );
    }

    #[test]
    fn authorities_of_the_system_are_in_a_file_or_a_folder() {
        let folder = Folder::new("system");
        let file = folder.file("certificate");
        let trust = |file: Option<&Path>, folder: Option<&Path>| {
            let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
            trust_system(&mut builder, file, folder).map_err(|(what, _)| what)
        };
        assert_eq!(trust(Some(&file), None), Ok(()));
        assert_eq!(trust(None, Some(&folder.0)), Ok(()));
        assert_eq!(trust(Some(&file), Some(&folder.0)), Ok(()));
        let none = "no certificates of trusted authorities were found on this system";
        assert_eq!(trust(None, None), Err(none.to_owned()));
    }

    #[test]
    fn only_an_error_of_tls_itself_refuses_a_connection() {
        assert!(is_refusal(&io::Error::other(ErrorStack::get())));
        assert!(!is_refusal(&io::Error::from(io::ErrorKind::ConnectionReset)));
        assert!(!is_refusal(&io::Error::other("something else")));
    }
}
