//! Fetch models that a scenario asks for, and what it expects under each.

use std::fmt::Display;
use std::str::FromStr;

use crossmod_model::fetch::{FetchModel, Order};
use crossmod_model::property::Property;

use super::error::{Place, ScenarioError, suggest};
use super::spanned::Spanned;
use super::syntax;
use super::syntax::{Expect, Fetch, OneOrMore};

/// The models that the scenario asks for; `coherent` if it names none.
pub(super) fn asked(given: Option<&Spanned<Fetch>>) -> Result<Vec<FetchModel>, ScenarioError> {
    let Some(given) = given else { return Ok(vec![FetchModel::COHERENT]) };
    match &given.value {
        Fetch::Custom(custom) => Ok(vec![self::custom(custom)?]),
        Fetch::Names(OneOrMore::One(name)) if name == "all" => Ok(FetchModel::presets().collect()),
        Fetch::Names(names) => {
            let empty = ["the list of fetch models is empty", "remove the key, or name one"];
            each_once(names, &given.place, model, "is named twice", empty)
        }
    }
}

fn custom(custom: &syntax::Custom) -> Result<FetchModel, ScenarioError> {
    let place = &custom.atom.place;
    let atom = u8::try_from(custom.atom.value).ok().filter(|atom| FetchModel::ATOMS.contains(atom));
    let Some(atom) = atom else {
        return Err(place.error(
            format!("{} is not a block size", custom.atom.value),
            "not possible",
            "choose 1, 8, 16, 32 or 64 bytes",
        ));
    };
    let (message, help) = match (custom.stale, custom.order) {
        (true, Some(order)) => return Ok(FetchModel { atom, stale: true, order }),
        (false, None) => return Ok(FetchModel { atom, stale: false, order: Order::Program }),
        (true, None) => {
            ("a model with stale fetches, but no order", "add order = \"program\", \"block\" or \"any\"")
        }
        (false, Some(_)) => {
            ("fetches that are never stale have no order", "remove `order`, or set stale = true")
        }
    };
    Err(place.error(message, "belongs to this model", help))
}

/// What a name stands for.
pub(super) fn named<T: FromStr<Err = String>>(
    name: &str,
    place: &Place,
    label: &'static str,
    known: &[&str],
    otherwise: &str,
) -> Result<T, ScenarioError> {
    name.parse().map_err(|message: String| place.error(message, label, suggest(name, known, otherwise)))
}

fn model(name: &str, place: &Place) -> Result<FetchModel, ScenarioError> {
    let known: Vec<&str> = FetchModel::preset_names().collect();
    let otherwise = "name a preset; a single model may be given as { atom = ..., stale = ..., order = ... }";
    named(name, place, "unknown fetch model", &known, otherwise)
}

fn property(name: &str, place: &Place) -> Result<Property, ScenarioError> {
    let known = [&Property::ALL.map(Property::name)[..], &["safe"]].concat();
    let otherwise = "list the properties that are violated, or write \"safe\" alone";
    named(name, place, "unknown property", &known, otherwise)
}

/// What each name of a list stands for. `empty` is what is wrong with a list without names, and the remedy.
fn each_once<T: PartialEq + Display>(
    names: &OneOrMore,
    whole: &Place,
    named: fn(&str, &Place) -> Result<T, ScenarioError>,
    twice: &str,
    empty: [&str; 2],
) -> Result<Vec<T>, ScenarioError> {
    let mut found = Vec::new();
    for (name, place) in names.items(whole) {
        let one = named(name, place)?;
        if found.contains(&one) {
            return Err(place.error(format!("`{one}` {twice}"), "again", "name it once"));
        }
        found.push(one);
    }
    if found.is_empty() { Err(whole.error(empty[0], "empty", empty[1])) } else { Ok(found) }
}

/// What is expected under a model; nothing is violated where the file does not say.
pub(super) fn expectation(
    given: &Spanned<Expect>,
    fetch: FetchModel,
    asked: &[FetchModel],
    overridden: bool,
) -> Result<Vec<Property>, ScenarioError> {
    let each = match &given.value {
        Expect::All(names) => return properties(names, &given.place),
        Expect::Each(each) => each,
    };
    let (mut default, mut own) = (None, None);
    for (key, names) in each {
        let expect = properties(names, &names.place)?;
        if key.value == "default" {
            default = Some(expect);
            continue;
        }
        let model = model(key, &key.place)?;
        if model == fetch {
            own = Some(expect);
        } else if !asked.contains(&model) && !overridden {
            return Err(key.place.error(
                format!("`{model}` is not among the fetch models that this scenario asks for"),
                "never searched",
                format!("add it to `fetch`, as in `fetch = [\"{model}\"]`"),
            ));
        }
    }
    Ok(own.or(default).unwrap_or_default())
}

fn properties(names: &OneOrMore, whole: &Place) -> Result<Vec<Property>, ScenarioError> {
    if matches!(names, OneOrMore::One(name) if name == "safe") {
        return Ok(Vec::new());
    }
    let empty = ["an expectation without a property", "write \"safe\" if nothing is to be violated"];
    let mut expect = each_once(names, whole, property, "is expected twice", empty)?;
    expect.sort_unstable();
    Ok(expect)
}
