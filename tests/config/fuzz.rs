//! Arbitrary damage to a config: it never panics, every error has a place in the file, and what is still accepted expands to
//! the same config.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{environment, fixtures, load, read};
use weirkeeper::config::expand;

static FULL: LazyLock<Value> = LazyLock::new(|| parsed("configs/good/full.json"));
static FLAT: LazyLock<Value> = LazyLock::new(|| parsed("configs/good/first-user.json"));

fn parsed(name: &str) -> Value {
    serde_json::from_str(&read(&fixtures(name))).expect("good files are JSON")
}

/// The pointers of every value within `value`.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, member) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(member, format!("{at}/{key}"), found);
            }
        }
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                pointers(item, format!("{at}/{i}"), found);
            }
        }
        _ => {}
    }
    found.push(at);
}

/// Values that are right in one place and wrong in most.
fn samples() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![
        json!(null),
        json!(true),
        json!(false),
        json!(0),
        json!(1),
        json!(7.5),
        json!(-3),
        json!(u64::MAX),
        json!(""),
        json!("off"),
        json!("/"),
        json!("/a b"),
        json!("/a%2Fb"),
        json!("2s"),
        json!("0s"),
        json!("64KiB"),
        json!(":0"),
        json!("web"),
        json!("api"),
        json!("http://[::1]:9"),
        json!("${NO:-a}"),
        json!("$${NO}"),
        json!("${NO}"),
        json!("{path}"),
        json!("é\r\n"),
        json!([]),
        json!({}),
        json!(["web"]),
        json!(["http://h:1/p", {"url": "http://h:1/q"}]),
        json!({"prefix": "/"}),
        json!({"regex": "^/$"}),
        json!({"bind": ":1"}),
        json!({"x-y": "1"}),
        json!({"a": {}}),
    ])
}

/// Takes the value at `pointer` out of `file`; out of a list, nothing.
fn take_out(file: &mut Value, pointer: &str) {
    let (parent, key) = pointer.rsplit_once('/').expect("it is not the root");
    let key = key.replace("~1", "/").replace("~0", "~");
    if let Some(Value::Object(map)) = file.pointer_mut(parent) {
        map.shift_remove(&key);
    }
}

/// `file` is refused in its place, or means what it expands to.
fn check(file: &Value) {
    let text = serde_json::to_string_pretty(&file).expect("JSON can be written");
    match load(&text) {
        Ok(mut config) => {
            let once = expand("f", &text, &environment).expect("it loads");
            let mut again = load(&once).unwrap_or_else(|e| panic!("{once}\n{e}"));
            config.warnings.clear();
            again.warnings.clear();
            assert_eq!(format!("{:?}", config), format!("{:?}", again), "{}", text);
            assert_eq!(&once, &expand("f", &once, &environment).expect("it loads"));
        }
        Err(errors) => {
            assert!(!errors.0.is_empty());
            let mut last = (0, 0);
            for e in &errors.0 {
                assert!((e.line, e.col) >= last, "not in file order:\n{}", errors);
                last = (e.line, e.col);
                let line = text.lines().nth(e.line as usize - 1);
                let columns = line.map_or(0, |l| l.chars().count());
                assert!(
                    (1..=columns).contains(&(e.col as usize)),
                    "{} is not in\n{}",
                    e,
                    text
                );
                let parent = e.path.rsplit_once('/').map_or("", |(parent, _)| parent);
                assert!(file.pointer(parent).is_some(), "{} is not in\n{}", e, text);
            }
        }
    }
}

#[test]
fn any_one_key_may_be_missing() {
    for whole in [&*FULL, &*FLAT] {
        let mut all = Vec::new();
        pointers(whole, String::new(), &mut all);
        all.pop();
        for pointer in all {
            let mut file = whole.clone();
            take_out(&mut file, &pointer);
            check(&file);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_damaged_file_is_refused_in_its_place_or_means_what_it_expands_to(
        flat: bool,
        damage in prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(samples())), 1..4),
    ) {
        let mut file = if flat { FLAT.clone() } else { FULL.clone() };
        for (place, value) in damage {
            let mut all = Vec::new();
            pointers(&file, String::new(), &mut all);
            all.pop();
            if all.is_empty() {
                break;
            }
            let pointer = place.get(&all).clone();
            match value {
                Some(value) => *file.pointer_mut(&pointer).expect("it was just found") = value,
                None => take_out(&mut file, &pointer),
            }
        }
        check(&file);
    }
}
