//! Warnings of rules for paths that leave open what they seem to close, and of paths that no request has.

use super::model::{Action, Listener};
use super::plan::PlannedRoute;
use super::reader::Node;
use crate::engine::router::PathMatch;
use crate::message::path::{PathRules, Treatment};

/// Warns of both.
pub(crate) fn lint(routes: &[(Node<'_>, PlannedRoute)], listeners: &[Listener]) {
    for (i, (node, planned)) in routes.iter().enumerate() {
        let refuses =
            matches!(planned.route.action, Action::Respond { status, .. } if status >= 400);
        if refuses {
            refusal(node, planned, &routes[i + 1..]);
        }
        let (PathMatch::Exact(path) | PathMatch::Prefix(path)) = &planned.route.matches.path else {
            continue;
        };
        for listener in planned.listeners.iter().map(|i| &listeners[*i]) {
            if let Some(key) = unseen(path, &listener.path) {
                node.warn(format_args!(
                    "no request to the listener \"{}\" has the path \"{path}\", since its \"path.{key}\" leaves none",
                    listener.name
                ));
            }
        }
    }
}

/// A route that refuses: does a later one take what it was probably meant for as well?
fn refusal(node: &Node<'_>, planned: &PlannedRoute, later: &[(Node<'_>, PlannedRoute)]) {
    let goes_on = |path: &str| {
        later.iter().any(|(_, other)| {
            let shares = planned
                .listeners
                .iter()
                .any(|l| other.listeners.contains(l));
            shares && other.route.matches.path.matches(path)
        })
    };
    match &planned.route.matches.path {
        PathMatch::Prefix(prefix) if prefix.len() > 1 => {
            if let Some(itself) = prefix.strip_suffix('/').filter(|path| goes_on(path)) {
                node.warn(format_args!(
                    "the prefix \"{prefix}\" leaves \"{itself}\" itself open; \"{itself}\" as a prefix is both"
                ));
            }
        }
        PathMatch::Exact(path) if goes_on(&format!("{}/x", path.trim_end_matches('/'))) => {
            node.warn(format_args!(
                "the path \"{path}\" leaves what lies below it open; {{\"prefix\": \"{path}\"}} is both"
            ));
        }
        _ => {}
    }
}

/// The setting by which no path of a request has what this one has.
fn unseen(path: &str, rules: &PathRules) -> Option<&'static str> {
    let gone = |treatment: Treatment| treatment != Treatment::Keep;
    let forms = [
        (rules.merge_slashes, "//", "merge_slashes"),
        (gone(rules.encoded_slashes), "%2F", "encoded_slashes"),
        (gone(rules.backslashes), "%5C", "backslashes"),
        (gone(rules.parameters), ";", "parameters"),
    ];
    let form = forms
        .iter()
        .find(|(gone, form, _)| *gone && path.contains(form));
    form.map(|(_, _, key)| *key)
}
