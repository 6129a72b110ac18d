//! What is in a vault: whether it is whole, and what is not needed any more.

use super::summary;
use super::vault::{FRESH, Vault, at, sync_dir};
use crate::bytes::hash::Set;
use crate::cli::{Failure, Told};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

/// Holds backups against their checksums; a failure where something is wrong.
pub(super) fn verify(
    vault: &Vault,
    name: Option<&str>,
    told: &mut Told<'_>,
) -> Result<(), Failure> {
    let found = vault.manifests()?;
    let one = name.map(|name| found.called(name)).transpose()?;
    let chosen: Vec<_> =
        found.whole.iter().filter(|each| one.is_none_or(|one| one == *each)).collect();
    let mut progress = super::Progress::new("read");
    let (mut seen, mut octets) = (Set::<PathBuf>::default(), 0);
    let mut faults: Vec<String> = match name {
        Some(_) => Vec::new(),
        None => found.broken.clone(),
    };
    for manifest in &chosen {
        for (path, length, hash) in manifest.named() {
            if !seen.insert(path.clone()) {
                continue;
            }
            if let Err(failure) = vault.check(&path, length, hash, &mut |_| Ok(())) {
                faults.push(failure.text().to_owned());
            }
            octets += length;
            progress.add(length, told);
        }
    }
    let text = format!("{} backups, {} files, {octets} octets read", chosen.len(), seen.len());
    let fields = serde_json::json!({
        "backups": chosen.len(), "files": seen.len(), "octets": octets, "faults": faults,
    });
    summary(told, &text, &fields)?;
    if faults.is_empty() {
        return Ok(());
    }
    if !told.json {
        for fault in &faults {
            writeln!(told.out, "  {fault}")?;
        }
    }
    Err(Failure::Failed(format!("{} faults found", faults.len())))
}

/// Removes all backups but the newest, and the files that no other names. How many backups went.
pub(super) fn prune(vault: &Vault, keep: NonZeroU32) -> Result<usize, Failure> {
    let found = vault.manifests()?;
    if let Some(broken) = found.broken.first() {
        // Nobody knows what it names.
        return Err(Failure::Failed(format!("nothing was removed: {broken}")));
    }
    let keep = usize::try_from(keep.get()).unwrap_or(usize::MAX);
    let (old, kept) = found.whole.split_at(found.whole.len().saturating_sub(keep));
    for manifest in old {
        let path = vault.dir.join(format!("backup-{}.json", manifest.name()));
        std::fs::remove_file(&path).map_err(at(&path))?;
    }
    // Before what they name: a manifest that is there has all its pieces.
    sync_dir(&vault.dir).map_err(at(&vault.dir))?;
    let named: Set<PathBuf> =
        kept.iter().flat_map(|manifest| manifest.named().map(|(path, ..)| path)).collect();
    for entry in std::fs::read_dir(&vault.dir).map_err(at(&vault.dir))? {
        let name = entry.map_err(at(&vault.dir))?.file_name();
        let is_ours = name == "files" || name.to_string_lossy().starts_with("log-");
        let dir = vault.dir.join(&name);
        if !is_ours || !dir.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(&dir).map_err(at(&dir))? {
            let file = entry.map_err(at(&dir))?.file_name();
            let path = Path::new(&name).join(&file);
            if named.contains(&path) || !is_piece(&file.to_string_lossy(), name == "files") {
                continue;
            }
            let path = vault.dir.join(path);
            std::fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    Ok(old.len())
}

/// Whether a file has a name that only we give.
fn is_piece(name: &str, is_beside: bool) -> bool {
    let is_hash = name.len() == 16 && name.bytes().all(|octet| octet.is_ascii_hexdigit());
    name == FRESH || if is_beside { is_hash } else { name.starts_with("seg-") }
}
