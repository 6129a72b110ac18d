//! The disk of a simulated machine: names, files, room, and faults by script. Outlives machines.
//!
//! A handle is cheap to clone and all clones are the same disk. A test keeps one across lives:
//! life one, crash, life two on what is left.

use super::chance::Chance;
use super::image::Image;
use crate::bytes::hash::Sorted;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// What a crash does to writes that no sync covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The process died, the machine did not: what completed is there. What was on its way may be.
    Nothing,
    /// A cache without power: all of it is gone.
    Everything,
    /// Each sector is old or new by coin.
    Chance,
}

/// The operations that a [`Script`] can make fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    Create,
    Write,
    Read,
    Sync,
}

/// Fails certain operations for certain: of those on files whose path contains `path`, the first
/// `skip` pass, the next `times` fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    pub op: Op,
    /// A part of the path; empty for all files.
    pub path: String,
    pub skip: u32,
    pub times: u32,
}

pub(super) type SharedImage = Rc<RefCell<Image>>;

#[derive(Default)]
struct State {
    files: Sorted<PathBuf, SharedImage>,
    dirs: BTreeSet<PathBuf>,
    scripts: Vec<Script>,
}

/// The disk. See the header of the module.
#[derive(Clone, Default)]
pub struct Disk {
    state: Rc<RefCell<State>>,
}

impl Disk {
    /// An empty disk.
    pub fn new() -> Disk {
        Disk::default()
    }

    /// A disk of its own with the same content; scripts stay behind.
    #[must_use]
    pub fn fork(&self) -> Disk {
        let state = self.state.borrow();
        let copy = |(path, image): (&PathBuf, &SharedImage)| {
            (path.clone(), Rc::new(RefCell::new(image.borrow().clone())))
        };
        let files = state.files.iter().map(copy).collect();
        let state = State { files, dirs: state.dirs.clone(), scripts: Vec::new() };
        Disk { state: Rc::new(RefCell::new(state)) }
    }

    /// Adds a script; several work side by side.
    pub fn script(&self, script: Script) {
        self.state.borrow_mut().scripts.push(script);
    }

    /// Ends all scripts.
    pub fn heal(&self) {
        self.state.borrow_mut().scripts.clear();
    }

    /// The power goes, or the process alone. Only after the tasks of the machine are gone.
    pub fn crash(&self, loss: Loss, chance: &Chance) {
        let mut state = self.state.borrow_mut();
        state.files.retain(|_, image| {
            let mut image = image.borrow_mut();
            if image.creating && chance.below(3) == 0 {
                return false;
            }
            image.crash(loss, chance);
            true
        });
    }

    /// All files with their lengths, by path.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state.borrow();
        state.files.iter().map(|(path, image)| (path.clone(), image.borrow().len())).collect()
    }

    /// All of one file as a reader sees it now.
    pub fn read(&self, path: &Path) -> Option<Vec<u8>> {
        let image = self.find(path)?;
        let image = image.borrow();
        Some(image.read(0, crate::bytes::codec::to_usize(image.len()), None))
    }

    /// Flips one bit at rest. False if there is no such octet.
    pub fn flip(&self, path: &Path, at: u64, bit: u8) -> bool {
        self.damage(path, at, &mut |octet| *octet ^= 1 << (bit & 7))
    }

    /// Sets octets at rest. False if they are not all within the file.
    pub fn overwrite(&self, path: &Path, at: u64, octets: &[u8]) -> bool {
        octets.iter().zip(at..).all(|(&new, at)| self.damage(path, at, &mut |octet| *octet = new))
    }

    /// Cuts a file off. False if there is none.
    pub fn cut(&self, path: &Path, len: u64) -> bool {
        self.find(path).map(|image| image.borrow_mut().cut(len)).is_some()
    }

    /// Takes a file away, as an operator might. False if there is none.
    pub fn forget(&self, path: &Path) -> bool {
        self.state.borrow_mut().files.remove(path).is_some()
    }

    /// Octets that all files have together.
    pub fn used(&self) -> u64 {
        self.state.borrow().files.values().map(|image| image.borrow().len()).sum()
    }

    fn damage(&self, path: &Path, at: u64, change: &mut dyn FnMut(&mut u8)) -> bool {
        let Some(image) = self.find(path) else { return false };
        let mut image = image.borrow_mut();
        if at >= image.len() {
            return false;
        }
        image.damage(at, change);
        true
    }

    pub(super) fn find(&self, path: &Path) -> Option<SharedImage> {
        self.state.borrow().files.get(path).map(Rc::clone)
    }

    /// Whether a script wants this operation to fail. Counts it.
    pub(super) fn scripted(&self, op: Op, path: &Path) -> bool {
        let mut state = self.state.borrow_mut();
        if state.scripts.is_empty() {
            return false;
        }
        let text = path.to_string_lossy();
        let mut fails = false;
        for script in &mut state.scripts {
            if script.op != op || !text.contains(&script.path) || script.times == 0 {
                continue;
            }
            if script.skip > 0 {
                script.skip -= 1;
            } else {
                script.times -= 1;
                fails = true;
            }
        }
        fails
    }

    pub(super) fn has_dir(&self, dir: &Path) -> bool {
        dir.parent().is_none() || dir == Path::new("") || self.state.borrow().dirs.contains(dir)
    }

    pub(super) fn add_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.borrow_mut();
        for above in dir.ancestors() {
            if state.files.contains_key(above) {
                return Err(io::ErrorKind::NotADirectory.into());
            }
        }
        for above in dir.ancestors() {
            state.dirs.insert(above.to_path_buf());
        }
        Ok(())
    }

    pub(super) fn names(&self, dir: &Path) -> io::Result<Vec<String>> {
        if !self.has_dir(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let state = self.state.borrow();
        let within = state.files.keys().filter(|path| path.parent() == Some(dir));
        let mut names: Vec<String> = within
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Takes the name and the room for a file that is about to be written.
    pub(super) fn begin(&self, path: &Path, len: u64, room: u64) -> io::Result<SharedImage> {
        if self.find(path).is_some() || self.state.borrow().dirs.contains(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !path.parent().is_some_and(|dir| self.has_dir(dir)) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if self.used().saturating_add(len) > room {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut image = Image::zeros(len);
        image.creating = true;
        let image = Rc::new(RefCell::new(image));
        self.state.borrow_mut().files.insert(path.to_path_buf(), Rc::clone(&image));
        Ok(image)
    }
}
