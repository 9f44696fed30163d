//! Tables of the documentation that the program prints as well: one source for both.

/// A cell of the row that a Markdown table has for `name`, by its column from 0; empty if there is none.
pub fn cell(table: &'static str, name: &str, column: usize) -> &'static str {
    let row = table.lines().find(|line| {
        line.strip_prefix("| `")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with("` |"))
    });
    row.and_then(|row| row.split('|').nth(column + 1)).map_or("", str::trim)
}

#[cfg(test)]
mod tests {
    use crate::fetch::FetchModel;
    use crate::property::Property;

    #[test]
    fn every_property_and_preset_has_its_row() {
        for property in Property::ALL {
            assert!(property.describe().split_whitespace().count() >= 4, "{property}");
        }
        for model in FetchModel::presets() {
            assert!(model.promise().is_some_and(|promise| promise.len() > 10), "{model}");
        }
        assert_eq!(super::cell("| `a` | x |\n| `b` | y |\n", "b", 1), "y");
        assert_eq!(super::cell("| `ab` | x |\n", "a", 1), "");
    }
}
