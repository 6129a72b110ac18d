//! TXT records that tell of a policy: a version, then fields (RFC 8461 §3.1, RFC 8460 §3).
//!
//! ```text
//! record := version 1*(delim field) [delim]        delim := *WSP ";" *WSP
//! field  := name "=" value                         name  := alnum *31(alnum / "_" / "-" / ".")
//! ```
//! What a value may hold its reader says: most are of printed ASCII without `=` and `;`.

/// The fields of the one record of this version among those of a name; `None`: there is none, there are
/// several, or it is not well formed. Records that begin otherwise are others' affair.
pub(super) fn fields<'a>(
    records: impl IntoIterator<Item = &'a [u8]>,
    version: &str,
) -> Option<Vec<(&'a str, &'a str)>> {
    let is_ours = |record: &&[u8]| {
        record.strip_prefix(version.as_bytes()).is_some_and(|rest| rest.first() == Some(&b';'))
    };
    let mut ours = records.into_iter().filter(is_ours);
    let (record, None) = (ours.next()?, ours.next()) else { return None };
    let (_, fields) = str::from_utf8(record).ok()?.split_once(';')?;
    // The last delimiter may be missing; white space stands beside a delimiter alone.
    let fields = match fields.trim_end_matches([' ', '\t']).strip_suffix(';') {
        Some(fields) => fields.trim_end_matches([' ', '\t']),
        None => fields,
    };
    let mut pieces = fields.split(';').peekable();
    let mut all = Vec::new();
    while let Some(piece) = pieces.next() {
        let piece = piece.trim_start_matches([' ', '\t']);
        let piece =
            if pieces.peek().is_some() { piece.trim_end_matches([' ', '\t']) } else { piece };
        let (name, value) = piece.split_once('=')?;
        all.push((name, value));
    }
    all.iter().all(|(name, _)| is_name(name)).then_some(all)
}

/// The name of a field that may be added one day.
pub(super) fn is_name(name: &str) -> bool {
    let is_inner = |octet: u8| octet.is_ascii_alphanumeric() || b"_-.".contains(&octet);
    let [first, inner @ ..] = name.as_bytes() else { return false };
    first.is_ascii_alphanumeric() && inner.len() <= 31 && inner.iter().copied().all(is_inner)
}

/// The value of such a field.
pub(super) fn is_value(value: &str) -> bool {
    let is_printed = |octet: u8| octet.is_ascii_graphic() && octet != b'=' && octet != b';';
    !value.is_empty() && value.bytes().all(is_printed)
}
