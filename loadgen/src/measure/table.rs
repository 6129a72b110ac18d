//! Lines of name and value, aligned, for people; groups are set apart by an empty line.

/// A table that grows line by line.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Option<(String, String)>>,
}

impl Table {
    pub(crate) fn row(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.rows.push(Some((name.into(), value.into())));
    }

    /// Sets what follows apart.
    pub(crate) fn gap(&mut self) {
        if self.rows.last().is_some_and(Option::is_some) {
            self.rows.push(None);
        }
    }

    /// Names to the left, values behind the longest name.
    pub(crate) fn show(&self) -> String {
        let width = self.rows.iter().flatten().map(|(name, _)| name.chars().count()).max();
        let width = width.unwrap_or(0);
        let mut out = String::new();
        for row in &self.rows {
            if let Some((name, value)) = row {
                out.push_str(name);
                out.extend(std::iter::repeat_n(' ', width - name.chars().count() + 2));
                out.push_str(value);
            }
            out.push('\n');
        }
        out
    }
}

/// A whole number with thin groups: `1,234,567`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A figure with as many places as its size deserves.
pub(crate) fn figure(number: f64) -> String {
    if number >= 1_000.0 {
        grouped(crate::values::whole(number.round()))
    } else if number >= 100.0 {
        format!("{number:.1}")
    } else if number >= 1.0 {
        format!("{number:.2}")
    } else {
        format!("{number:.4}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn aligns_values_and_sets_groups_apart() {
        let mut table = Table::default();
        table.row("messages", grouped(1_234_567));
        table.row("rate", format!("{}/s", figure(981.25)));
        table.gap();
        table.gap();
        table.row("syncs per message", figure(0.0204));
        expect![[r"
            messages           1,234,567
            rate               981.2/s

            syncs per message  0.0204
        "]]
        .assert_eq(&table.show());
    }

    #[test]
    fn groups_by_three_digits() {
        assert_eq!(
            [0, 12, 123, 1_234, 123_456, 1_000_000].map(grouped),
            ["0", "12", "123", "1,234", "123,456", "1,000,000"]
        );
        assert_eq!([12.5, 99_999.6, 0.5].map(figure), ["12.50", "100,000", "0.5000"]);
    }
}
