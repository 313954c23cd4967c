//! `shoal serve --dev`: works without any setting, for this machine only.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::base::Rng;
use crate::config::Config;

/// Where a development server keeps its data, below the current directory.
const DATA_DIR: &str = "shoal-data";
const KEY_FILE: &str = "api-key";
const LISTEN: &str = "127.0.0.1:8080";

/// The configuration with what is missing filled in.
///
/// # Errors
///
/// When it names an address that others can reach, or the data directory cannot be written.
pub fn config(mut config: Config, listen_is_given: bool) -> Result<Config, String> {
    if !listen_is_given && !config.is_loopback()? {
        config.listen = LISTEN.into();
    }
    if !config.is_loopback()? {
        return Err(format!(
            "--dev serves this machine only, but listen is {}",
            config.listen
        ));
    }
    let dir = std::env::current_dir().map_err(|e| e.to_string())?.join(DATA_DIR);
    if config.store == "memory:" {
        let objects = dir.join("objects");
        fs::create_dir_all(&objects).map_err(|e| format!("{DATA_DIR} cannot be created: {e}"))?;
        let url = url::Url::from_directory_path(&objects).map_err(|()| "the data directory is no URL".to_owned())?;
        config.store = url.into();
    }
    if config.api_key.is_none() && config.api_key_file.is_none() {
        config.api_key = Some(key(&dir)?);
    }
    Ok(config)
}

/// The key of this data directory, made on the first start and readable by its owner only.
fn key(dir: &Path) -> Result<String, String> {
    fs::create_dir_all(dir).map_err(|e| format!("{DATA_DIR} cannot be created: {e}"))?;
    let path = dir.join(KEY_FILE);
    let fresh = format!("shoal_dev_{:032x}", Rng::from_os().u128());
    let created = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path);
    match created {
        Ok(mut file) => {
            file.write_all(fresh.as_bytes())
                .map_err(|e| format!("{KEY_FILE} cannot be written: {e}"))?;
            Ok(fresh)
        }
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            let text = fs::read_to_string(&path).map_err(|e| format!("{KEY_FILE} cannot be read: {e}"))?;
            Ok(text.trim().to_owned())
        }
        Err(e) => Err(format!("{KEY_FILE} cannot be created: {e}")),
    }
}

/// What is printed when the server is up.
pub fn banner(url: &str, key: &str) -> String {
    format!(
        "\n  URL      {url}\n  API key  {key}\n\n\
         # pip install turbopuffer\n\
         import turbopuffer\n\
         tpuf = turbopuffer.Turbopuffer(base_url=\"{url}\", api_key=\"{key}\")\n\
         ns = tpuf.namespace(\"quickstart\")\n\
         ns.write(upsert_rows=[{{\"id\": 1, \"vector\": [0.1, 0.2], \"title\": \"hello\"}}], distance_metric=\"cosine_distance\")\n\
         print(ns.query(rank_by=(\"vector\", \"ANN\", [0.1, 0.2]), top_k=10, include_attributes=[\"title\"]))\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = key(dir.path()).expect("made");
        assert!(first.len() >= 32);
        assert_eq!(key(dir.path()).expect("read"), first);
    }
}
