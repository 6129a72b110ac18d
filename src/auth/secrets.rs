//! What is kept of a password ([`crate::directory::User::hash`]): its hash, and keys of SCRAM made of
//! the same password.

use super::hash::{Cost, NotHashed, hash, is_outdated};
use crate::proto::sasl::{Hash, Keys, Terms};

/// How it is made of a password that is set now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What the hash costs.
    pub cost: Cost,
    /// Which keys of SCRAM there are to be.
    pub scram: Vec<Hash>,
    /// Iterations of these.
    pub iterations: u32,
}

impl Recipe {
    /// Makes it of a password, prepared by SASLprep. The salts are random: one for the hash, and one
    /// for each kind of keys. Takes its time and memory: not on a shard.
    pub fn make(&self, password: &str, salts: [[u8; 16]; 3]) -> Result<String, NotHashed> {
        self.remake("", &[], password, salts)
    }

    /// The same where something is kept of this password: what of it is as good stays as it is. Keys
    /// are made on the terms that those of the user's application passwords are bound to.
    pub fn remake(
        &self,
        kept: &str,
        bound: &[Terms],
        password: &str,
        salts: [[u8; 16]; 3],
    ) -> Result<String, NotHashed> {
        let [first, rest @ ..] = salts;
        let mut words = vec![match self.good_hash(kept) {
            Some(good) => good.to_owned(),
            None => hash(password, &first, self.cost)?,
        }];
        for (wanted, salt) in self.scram.iter().zip(rest) {
            let keys = self.good_keys(kept, bound, *wanted);
            let make = || match bound.iter().find(|terms| terms.hash == *wanted) {
                Some(terms) => Keys::of(terms.clone(), password),
                None => Keys::derive(*wanted, password, &salt, self.iterations),
            };
            words.push(keys.unwrap_or_else(make).to_string());
        }
        Ok(words.join(" "))
    }

    /// Whether what is kept should be made anew: the hash is of another kind or was cheaper to make,
    /// or there are keys missing, or they were made with fewer iterations and are not bound to them.
    pub fn is_better_than(&self, kept: &str, bound: &[Terms]) -> bool {
        let has_keys = |wanted: &Hash| self.good_keys(kept, bound, *wanted).is_some();
        self.good_hash(kept).is_none() || !self.scram.iter().all(has_keys)
    }

    fn good_hash<'a>(&self, kept: &'a str) -> Option<&'a str> {
        kept.split(' ').next().filter(|hash| !is_outdated(hash, self.cost))
    }

    fn good_keys(&self, kept: &str, bound: &[Terms], wanted: Hash) -> Option<Keys> {
        let mut keys = kept.split(' ').skip(1).filter_map(Keys::parse);
        keys.find(|Keys { terms, .. }| {
            let is_good = terms.iterations >= self.iterations || bound.contains(terms);
            terms.hash == wanted && is_good
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::verify;

    const RECIPE: Recipe = Recipe {
        cost: Cost { memory_kib: 16, passes: 2, lanes: 1 },
        scram: Vec::new(),
        iterations: 2,
    };
    const SALTS: [[u8; 16]; 3] = [[1; 16], [2; 16], [3; 16]];

    #[test]
    fn makes_a_hash_and_the_keys_that_are_wanted() {
        let recipe = Recipe { scram: vec![Hash::Sha256, Hash::Sha1], ..RECIPE };
        let kept = recipe.make("secret", SALTS).unwrap();
        let words: Vec<&str> = kept.split(' ').collect();
        assert_eq!(words.len(), 3);
        assert!(words.iter().all(|word| verify("secret", word) && !verify("other", word)));
        let keys: Vec<Keys> = words.into_iter().filter_map(Keys::parse).collect();
        assert_eq!([keys[0].terms.hash, keys[1].terms.hash], [Hash::Sha256, Hash::Sha1]);
        assert_ne!(keys[0].terms.salt, keys[1].terms.salt);
    }

    #[test]
    fn leaves_what_is_good_as_it_is() {
        let both = Recipe { scram: vec![Hash::Sha256, Hash::Sha1], ..RECIPE };
        let dear = Cost { memory_kib: 32, ..RECIPE.cost };
        let old = Recipe { cost: dear, scram: vec![Hash::Sha1], iterations: 3 };
        let kept = old.make("secret", SALTS).unwrap();
        let remade = both.remake(&kept, &[], "secret", SALTS).unwrap();
        let (old, new): (Vec<&str>, Vec<&str>) =
            (kept.split(' ').collect(), remade.split(' ').collect());
        assert_eq!([new[0], new[2]], [old[0], old[1]]);
        assert!(new[1].starts_with("SCRAM-SHA-256$2:") && verify("secret", new[1]));
        assert!(!both.is_better_than(&remade, &[]));
        // Keys that stand in the place of a hash are no hash.
        let remade = both.remake(old[1], &[], "secret", SALTS).unwrap();
        assert!(remade.starts_with("$argon2id$") && remade.split(' ').count() == 3);
    }

    /// Keys of application passwords are of use for as long as those of the password are on their terms.
    #[test]
    fn keeps_to_the_terms_that_are_bound() {
        let recipe = Recipe { scram: vec![Hash::Sha256, Hash::Sha1], iterations: 4, ..RECIPE };
        let terms = Terms { hash: Hash::Sha256, iterations: 3, salt: b"pepper"[..].into() };
        let bound = [terms.clone()];
        let kept = recipe.remake("", &bound, "secret", SALTS).unwrap();
        let words: Vec<&str> = kept.split(' ').collect();
        assert_eq!(words[1], Keys::of(terms, "secret").to_string());
        assert!(words[2].starts_with("SCRAM-SHA-1$4:"));
        // Of fewer iterations, and good all the same.
        assert!(!recipe.is_better_than(&kept, &bound) && recipe.is_better_than(&kept, &[]));
        assert_eq!(recipe.remake(&kept, &bound, "secret", SALTS).unwrap(), kept);
    }

    #[test]
    fn knows_what_is_weaker_than_what_it_makes() {
        let with = |scram: &[Hash], memory_kib, passes, iterations| {
            let cost = Cost { memory_kib, passes, lanes: 1 };
            Recipe { cost, scram: scram.to_vec(), iterations }
        };
        let made = |recipe: Recipe| recipe.make("secret", SALTS).unwrap();
        let wanted = with(&[Hash::Sha256], 16, 2, 2);
        let check = |kept: &str, is_weaker: bool| {
            assert_eq!(wanted.is_better_than(kept, &[]), is_weaker, "{kept}");
        };
        check(&made(wanted.clone()), false);
        check(&made(with(&[Hash::Sha256, Hash::Sha1], 16, 2, 2)), false);
        // What cost more is never made cheaper.
        check(&made(with(&[Hash::Sha256], 32, 2, 2)), false);
        check(&made(with(&[Hash::Sha256], 16, 3, 4)), false);
        check(&made(with(&[Hash::Sha256], 8, 2, 2)), true);
        check(&made(with(&[Hash::Sha256], 16, 1, 2)), true);
        check(&made(with(&[Hash::Sha256], 16, 2, 1)), true);
        check(&made(with(&[Hash::Sha1], 16, 2, 2)), true);
        check(&made(with(&[], 16, 2, 2)), true);
        check("{SHA256}K7gNU3sdo+OL0wNhqoVWhr3g6s1xYv72ol/pe/Unols=", true);
        let keys = Keys::derive(Hash::Sha256, "secret", b"salt", 2).to_string();
        check(&keys, true);
        check("", true);
    }
}
