//! Who the process is: root at most until its ports are bound, then a user with no privilege left.
//!
//! ```text
//!   serve      limits raised → ports bound → data_dir handed over → change_to(user) → renounce;
//!              `store.directories` have to be the user's already: an empty mount point is root's
//!   commands   of root, on a store: change_to(whoever owns data_dir), so that no file of root's is
//!              left where the server cannot touch it
//! ```
//!
//! Illegal: any of this after a thread was started. User and group ids are changed by the C library
//! for all threads, but capabilities, no_new_privs and Landlock belong to one thread, and to those
//! that it starts later; the kernel's threads of a ring stay who started them. So [`serve`] refuses to
//! work beside other threads.

use crate::cli::Failure;
use crate::config::Config;
use crate::probe::event::{Level, event};
use caps::{CapSet, Capability};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist, setgroups, setresgid, setresuid};
use std::ffi::CString;
use std::fmt;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// How deep below `data_dir` owners are looked at: logs and certificates lie one directory down.
const OWNERS_DEPTH: u32 = 2;
/// What a new file system has in its root.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

/// A user of the machine, with all groups that the machine gives it.
#[derive(Clone, Debug)]
struct Identity {
    name: String,
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// What became of the process; for the log, which cannot be written yet at that time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was root, and is this user for good.
    Dropped(String),
    /// It was started by a user and is that user still.
    AsStarted,
    /// It is root: nobody said who else to be.
    Root,
}

impl Standing {
    pub(super) fn tell(&self) {
        let uid = geteuid().as_raw();
        match self {
            Standing::Dropped(user) => {
                let fields = [("user", user.as_str().into()), ("uid", uid.into())];
                event(Level::Info, "privileges_dropped", &fields);
            }
            Standing::AsStarted => {}
            Standing::Root => event(Level::Warn, "runs_as_root", &[("set", "user".into())]),
        }
    }
}

/// Gives up what is not needed to serve, for good. Ports must be bound and limits raised by now.
pub(super) fn serve(config: &Config) -> Result<Standing, Failure> {
    alone()?;
    let standing = match (&config.user, geteuid()) {
        (user, uid) if uid.is_root() => {
            let user = user.as_deref().map(Identity::named).transpose()?;
            hand_over(&config.data_dir, user.as_ref())?;
            own_directories(config, user.as_ref())?;
            match user {
                Some(user) => {
                    user.change_to()?;
                    config.store_directories().try_for_each(|dir| enters(dir, &user.name))?;
                    Standing::Dropped(user.name)
                }
                None => Standing::Root,
            }
        }
        (Some(name), uid) => {
            if Identity::named(name)?.uid != uid {
                return Err(Failure::Wrong(format!(
                    "started by {}, but `user` is {name:?}: start it as root or as {name}",
                    Owner(uid)
                )));
            }
            Standing::AsStarted
        }
        (None, _) => Standing::AsStarted,
    };
    if standing != Standing::Root {
        renounce()?;
    }
    if !config.data_dir.exists() {
        make(&config.data_dir).map_err(at(&config.data_dir))?;
    }
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    Ok(standing)
}

/// What a command of root's does to the store is done by the store's owner.
pub(super) fn command(config: &Config) -> Result<(), Failure> {
    let dir = &config.data_dir;
    if geteuid().is_root() {
        let owner = match fs::metadata(dir) {
            Ok(found) => Some(Uid::from_raw(found.uid())).filter(|uid| !uid.is_root()),
            Err(_) => None,
        };
        match (owner, &config.user) {
            (Some(uid), _) => Identity::of(uid, dir)?.change_to()?,
            (None, Some(user)) if is_new(dir)? => {
                let user = Identity::named(user)?;
                hand_over(dir, Some(&user))?;
                own_directories(config, Some(&user))?;
                user.change_to()?;
            }
            // A store of root's: the server will be root as well, or refuse it.
            (None, _) => {}
        }
    }
    umask(Mode::S_IRWXG | Mode::S_IRWXO);
    Ok(())
}

/// See the header.
fn alone() -> Result<(), Failure> {
    match fs::read_dir("/proc/self/task").map(Iterator::count) {
        Ok(1) | Err(_) => Ok(()),
        Ok(threads) => Err(Failure::Failed(format!(
            "{threads} threads run already: some would keep privileges that the others give up"
        ))),
    }
}

impl Identity {
    fn named(name: &str) -> Result<Identity, Failure> {
        let found = User::from_name(name).map_err(|error| Failure::Failed(error.to_string()))?;
        let Some(user) = found else {
            return Err(Failure::Wrong(format!(
                "`user`: there is no {name:?} on this machine: make it with \
                 `useradd --system --home-dir /var/lib/pombal --shell /usr/sbin/nologin {name}`"
            )));
        };
        if user.uid.is_root() {
            let text = format!("`user`: {name:?} is root: leave the key out to stay root");
            return Err(Failure::Wrong(text));
        }
        Identity::with_groups(user)
    }

    /// Whoever has this number; one without a name is in the group of `dir` only.
    fn of(uid: Uid, dir: &Path) -> Result<Identity, Failure> {
        let found = User::from_uid(uid).map_err(|error| Failure::Failed(error.to_string()))?;
        if let Some(user) = found {
            return Identity::with_groups(user);
        }
        let gid = Gid::from_raw(fs::metadata(dir).map_err(at(dir))?.gid());
        Ok(Identity { name: uid.to_string(), uid, gid, groups: vec![gid] })
    }

    fn with_groups(user: User) -> Result<Identity, Failure> {
        let User { name, uid, gid, .. } = user;
        let groups = CString::new(name.as_str())
            .map_err(io::Error::other)
            .and_then(|name| getgrouplist(&name, gid).map_err(io::Error::from))
            .map_err(|error| Failure::Failed(format!("the groups of {name}: {error}")))?;
        Ok(Identity { name, uid, gid, groups })
    }

    /// Root becomes this user, and cannot go back. Groups first: they take the privilege that goes
    /// with the user id.
    fn change_to(&self) -> Result<(), Failure> {
        let failed = |error: &dyn fmt::Display| {
            Failure::Failed(format!("cannot become {}: {error}", self.name))
        };
        if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).unwrap_or(false) {
            caps::clear(None, CapSet::Bounding).map_err(|error| failed(&error))?;
        }
        setgroups(&self.groups).map_err(|error| failed(&error))?;
        setresgid(self.gid, self.gid, self.gid).map_err(|error| failed(&error))?;
        setresuid(self.uid, self.uid, self.uid).map_err(|error| failed(&error))?;
        let root = Uid::from_raw(0);
        if setresuid(root, root, root).is_ok() {
            return Err(failed(&"the way back to root is open"));
        }
        Ok(())
    }
}

/// Puts all capabilities down, and the right to gain any by a program that has them.
fn renounce() -> Result<(), Failure> {
    // Effective before permitted: it may not be more than that.
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(|error| Failure::Failed(error.to_string()))?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(|error| Failure::Failed(error.to_string()))
}

/// A number as `ls -l` shows it.
struct Owner(Uid);

impl fmt::Display for Owner {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match User::from_uid(self.0) {
            Ok(Some(user)) => out.write_str(&user.name),
            _ => write!(out, "user {}", self.0),
        }
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::Failed(format!("{}: {error}", path.display()))
}

/// Whether nothing lies in the directory, or it is not there.
fn is_new(dir: &Path) -> Result<bool, Failure> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(at(dir)(error)),
    };
    Ok(entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == LOST_AND_FOUND)))
}

/// Makes the data directory the user's (root's where there is none), where that takes it from
/// nobody: one that is not there is made, an empty one of root's is given. Anything else must belong
/// to the user already, with all that lies in it.
fn hand_over(dir: &Path, user: Option<&Identity>) -> Result<(), Failure> {
    if let (true, Some(user)) = (is_new(dir)?, user) {
        match fs::metadata(dir) {
            Ok(found) if found.uid() == user.uid.as_raw() => return Ok(()),
            // Whoever else made a link would choose what root gives away.
            Ok(found) if found.uid() == 0 && is_roots(dir) => {}
            Ok(_) => return Err(not_ours(dir, dir, Some(user))?),
            Err(_) => make(dir).map_err(at(dir))?,
        }
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        return chown(dir, Some(uid), Some(gid))
            .and_then(|()| fs::set_permissions(dir, Permissions::from_mode(0o700)))
            .map_err(at(dir));
    }
    owned(dir, user)
}

/// Directories for logs are given to nobody: one of root's in which nothing lies may be where a device
/// is to be mounted.
fn own_directories(config: &Config, user: Option<&Identity>) -> Result<(), Failure> {
    config.store.directories.iter().try_for_each(|dir| owned(dir, user))
}

/// Refuses a directory that does not belong to the user with all that lies in it.
fn owned(dir: &Path, user: Option<&Identity>) -> Result<(), Failure> {
    let uid = user.map_or(0, |user| user.uid.as_raw());
    match foreign(dir, uid, OWNERS_DEPTH).map_err(at(dir))? {
        Some(path) => Err(not_ours(dir, &path, user)?),
        None => Ok(()),
    }
}

fn is_roots(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.uid() == 0)
}

/// The directory for the user alone, the way to it for everybody.
fn make(dir: &Path) -> io::Result<()> {
    if let Some(above) = dir.parent().filter(|above| *above != Path::new("")) {
        DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    }
    DirBuilder::new().mode(0o700).create(dir)
}

/// Something at or below `path` that belongs to another.
fn foreign(path: &Path, uid: u32, depth: u32) -> io::Result<Option<PathBuf>> {
    let found = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    // The directory may lie behind a link, whoever made that.
    let is_link = found.is_symlink();
    let found = if is_link && depth == OWNERS_DEPTH { fs::metadata(path)? } else { found };
    if found.uid() != uid {
        return Ok(Some(path.into()));
    }
    if !found.is_dir() || depth == 0 {
        return Ok(None);
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_name() == LOST_AND_FOUND {
            continue;
        }
        if let Some(path) = foreign(&entry.path(), uid, depth - 1)? {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Whose `path` is, and what mends it.
fn not_ours(dir: &Path, path: &Path, user: Option<&Identity>) -> Result<Failure, Failure> {
    let owner = Owner(Uid::from_raw(fs::symlink_metadata(path).map_err(at(path))?.uid()));
    let (path, dir) = (path.display(), dir.display());
    Ok(Failure::Failed(match user {
        Some(Identity { name, gid, .. }) => format!(
            "{path} belongs to {owner}, and the server runs as {name}: stop whoever uses it, then \
             `chown -R {name}:{gid} {dir}`"
        ),
        None => format!(
            "{path} belongs to {owner}, and the server would run as root: set `user` to the owner of \
             {dir}, or `chown -R root: {dir}`"
        ),
    }))
}

/// Whether the user that this process has become gets to the directory.
fn enters(dir: &Path, user: &str) -> Result<(), Failure> {
    let Err(error) = fs::read_dir(dir) else { return Ok(()) };
    if error.kind() == io::ErrorKind::NotFound {
        // Whoever looks for logs says which are missing with it.
        return Ok(());
    }
    let mut above: Vec<&Path> = dir.ancestors().skip(1).collect();
    above.reverse();
    // What lies in a directory that may not be passed through cannot be asked for.
    let mut pairs = above.windows(2);
    let closed = pairs.find(|pair| fs::metadata(pair[1].join(".")).is_err()).map(|pair| pair[1]);
    match closed.filter(|_| error.kind() == io::ErrorKind::PermissionDenied) {
        Some(closed) => Err(Failure::Failed(format!(
            "{user} cannot get to {}: `chmod o+x {}`",
            dir.display(),
            closed.display()
        ))),
        None => Err(at(dir)(error)),
    }
}
