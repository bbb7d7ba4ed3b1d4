//! Whether `results.json` is what `results.schema.json` says: with the few words of JSON Schema that the file uses.

use serde_json::Value;

use crate::protocol::Outcome;
use crate::runner::results::tests::kernel;
use crate::runner::results::{KernelResult, Results, Status};

const SCHEMA: &str = include_str!("../../../results.schema.json");

/// Every place where a value is not what a schema says.
fn violations(value: &Value, schema: &Value, at: &str, found: &mut Vec<String>) {
    for (word, rule) in schema.as_object().expect("a schema is an object") {
        let holds = match word.as_str() {
            "$schema" | "title" | "description" => true,
            "const" => value == rule,
            "enum" => rule.as_array().expect("values").contains(value),
            "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().expect("a number")),
            "type" => {
                let names = rule.as_array().map_or_else(|| vec![rule], |names| names.iter().collect());
                names.into_iter().any(|name| is_of(value, name.as_str().expect("a type's name")))
            }
            "required" => {
                rule.as_array().expect("names").iter().all(|name| value.get(name.as_str().expect("a name")).is_some())
            }
            "additionalProperties" => {
                let known = &schema["properties"];
                value.as_object().is_none_or(|object| object.keys().all(|key| known.get(key).is_some()))
            }
            "properties" => {
                for (key, rule) in rule.as_object().expect("schemas") {
                    if let Some(part) = value.get(key) {
                        violations(part, rule, &format!("{at}.{key}"), found);
                    }
                }
                true
            }
            "items" => {
                for (i, part) in value.as_array().into_iter().flatten().enumerate() {
                    violations(part, rule, &format!("{at}[{i}]"), found);
                }
                true
            }
            other => panic!("this test does not know {other}"),
        };
        if !holds {
            found.push(format!("{at}: {word} {rule} does not hold for {value}"));
        }
    }
}

fn is_of(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "null" => value.is_null(),
        other => panic!("this test does not know the type {other}"),
    }
}

fn check(json: &Value) -> Vec<String> {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let mut found = Vec::new();
    violations(json, &schema, "results", &mut found);
    found
}

fn sample() -> Value {
    let outcomes =
        [Outcome::Pass, Outcome::Fail("x".into()), Outcome::Skip("old".into()), Outcome::NotRun("hang".into())];
    let mut ran = kernel("5.10", Status::Ran, &outcomes);
    ran.output = "hello\n".to_owned();
    ran.notes = vec!["no cgroup2".to_owned()];
    let broken =
        KernelResult { console: vec!["panic".to_owned()], ..kernel("6.1", Status::Broken("panic".into()), &[]) };
    let results = Results::new(vec![ran, broken, KernelResult::unavailable("6.6", "gone".into())]);
    serde_json::to_value(results).expect("JSON")
}

#[test]
fn results_are_what_the_schema_says() {
    assert_eq!(check(&sample()), Vec::<String>::new());
}

#[test]
fn what_the_schema_does_not_know_is_found() {
    for (pointer, bad) in [
        ("/format", Value::from(2)),
        ("/totals/passed", Value::from(-1)),
        ("/kernels/0/status", Value::from("fine")),
        ("/kernels/0/cases/0/outcome", Value::from("good")),
        ("/kernels/0/cases/0/millis", Value::from("1")),
        ("/kernels/1/console", Value::Null),
        ("/kernels/2", serde_json::json!({})),
        ("/kernels/2", serde_json::json!({"more": 1})),
    ] {
        let mut json = sample();
        *json.pointer_mut(pointer).expect(pointer) = bad;
        assert!(!check(&json).is_empty(), "{pointer}");
    }
}
