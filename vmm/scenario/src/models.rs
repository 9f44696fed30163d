//! Fetch models that a scenario asks for, and what it expects under each.

use crossmod_model::fetch::{FetchModel, Order};
use crossmod_model::property::Property;

use super::error::{Place, ScenarioError, Source, suggest};
use super::spanned::Spanned;
use super::syntax;
use super::syntax::{Expect, Fetch, OneOrMore};

/// The models that the scenario asks for; `coherent` if it names none.
pub(super) fn asked(
    source: &Source,
    given: Option<&Spanned<Fetch>>,
) -> Result<Vec<FetchModel>, ScenarioError> {
    let Some(given) = given else { return Ok(vec![FetchModel::COHERENT]) };
    let whole = source.at(given.span());
    let names = match given.get_ref() {
        Fetch::Custom(custom) => return Ok(vec![self::custom(source, custom)?]),
        Fetch::Names(OneOrMore::One(name)) if name == "all" => return Ok(FetchModel::presets().collect()),
        Fetch::Names(names) => spell(source, names, &whole),
    };
    if names.is_empty() {
        return Err(whole.error("the list of fetch models is empty", "empty", "remove the key, or name one"));
    }
    let mut models = Vec::new();
    for (name, place) in names {
        let model = named(name, &place)?;
        if models.contains(&model) {
            return Err(place.error(format!("`{model}` is named twice"), "again", "name it once"));
        }
        models.push(model);
    }
    Ok(models)
}

fn custom(source: &Source, custom: &syntax::Custom) -> Result<FetchModel, ScenarioError> {
    let atom = u8::try_from(*custom.atom.get_ref()).ok().filter(|atom| FetchModel::ATOMS.contains(atom));
    let Some(atom) = atom else {
        return Err(source.at(custom.atom.span()).error(
            format!("{} is not a block size", custom.atom.get_ref()),
            "not possible",
            "choose 1, 8, 16, 32 or 64 bytes",
        ));
    };
    let order = match (custom.stale, custom.order) {
        (true, Some(syntax::Order::Block)) => Order::Block,
        (true, Some(syntax::Order::Any)) => Order::Any,
        (true, Some(syntax::Order::Program)) | (false, None) => Order::Program,
        (true, None) => {
            return Err(source.at(custom.atom.span()).error(
                "a model with stale fetches, but no order",
                "belongs to this model",
                "add order = \"program\", \"block\" or \"any\"",
            ));
        }
        (false, Some(_)) => {
            return Err(source.at(custom.atom.span()).error(
                "fetches that are never stale have no order",
                "belongs to this model",
                "remove `order`, or set stale = true",
            ));
        }
    };
    Ok(FetchModel { atom, stale: custom.stale, order })
}

fn named(name: &str, place: &Place) -> Result<FetchModel, ScenarioError> {
    name.parse().map_err(|message: String| {
        let help = suggest(
            name,
            FetchModel::preset_names(),
            "name a preset; a single model may be given as { atom = ..., stale = ..., order = ... }",
        );
        place.error(message, "unknown fetch model", help)
    })
}

fn spell<'a>(source: &Source, names: &'a OneOrMore, whole: &Place) -> Vec<(&'a str, Place)> {
    match names {
        OneOrMore::One(name) => vec![(name, whole.clone())],
        OneOrMore::More(list) => {
            list.iter().map(|name| (name.get_ref().as_str(), source.at(name.span()))).collect()
        }
    }
}

/// What is expected under a model; nothing is violated where the file does not say.
pub(super) fn expectation(
    source: &Source,
    given: &Spanned<Expect>,
    fetch: FetchModel,
    asked: &[FetchModel],
    overridden: bool,
) -> Result<Vec<Property>, ScenarioError> {
    let each = match given.get_ref() {
        Expect::All(names) => return properties(source, names, &source.at(given.span())),
        Expect::Each(each) => each,
    };
    let (mut default, mut own) = (None, None);
    for (key, names) in each {
        let expect = properties(source, names.get_ref(), &source.at(names.span()))?;
        if key.get_ref() == "default" {
            default = Some(expect);
            continue;
        }
        let place = source.at(key.span());
        let model = named(key.get_ref(), &place)?;
        if model == fetch {
            own = Some(expect);
        } else if !asked.contains(&model) && !overridden {
            return Err(place.error(
                format!("`{model}` is not among the fetch models that this scenario asks for"),
                "never searched",
                format!("add it to `fetch`, as in `fetch = [\"{model}\"]`"),
            ));
        }
    }
    Ok(own.or(default).unwrap_or_default())
}

fn properties(source: &Source, names: &OneOrMore, whole: &Place) -> Result<Vec<Property>, ScenarioError> {
    if matches!(names, OneOrMore::One(name) if name == "safe") {
        return Ok(Vec::new());
    }
    let names = spell(source, names, whole);
    if names.is_empty() {
        return Err(whole.error(
            "an expectation without a property",
            "empty",
            "write \"safe\" if nothing is to be violated",
        ));
    }
    let mut expect = Vec::new();
    for (name, place) in names {
        let property: Property = name.parse().map_err(|message: String| {
            let known = Property::ALL.iter().map(|property| property.name());
            let help = suggest(
                name,
                known.chain(["safe"]),
                "list the properties that are violated, or write \"safe\" alone",
            );
            place.error(message, "unknown property", help)
        })?;
        if expect.contains(&property) {
            return Err(place.error(format!("`{property}` is expected twice"), "again", "name it once"));
        }
        expect.push(property);
    }
    expect.sort_unstable();
    Ok(expect)
}
