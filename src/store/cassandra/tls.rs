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
            let nowhere = || {
                (
                    "no certificates of trusted authorities were found on this system".to_owned(),
                    ErrorStack::get(),
                )
            };
            if found.cert_file.is_none() && found.cert_dir.is_empty() {
                return Err(nowhere());
            }
            let directory = found.cert_dir.first().map(|path| path.as_path());
            builder.load_verify_locations(found.cert_file.as_deref(), directory).map_err(openssl)?;
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
