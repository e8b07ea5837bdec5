//! The page that shows a timeline, or two: one file of HTML that loads nothing.

use serde::Serialize;

use crate::timeline::packed::{Packed, packed};
use crate::timeline::{Difference, Timeline, first_difference};

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");

/// The scripts, in the order in which they are included.
const SCRIPTS: [&str; 6] = [
    include_str!("page/data.js"),
    include_str!("page/view.js"),
    include_str!("page/draw.js"),
    include_str!("page/arrows.js"),
    include_str!("page/panels.js"),
    include_str!("page/main.js"),
];

/// What the page gets as its data.
#[derive(Serialize)]
struct Shown<'a> {
    runs: Vec<Packed<'a>>,
    difference: Option<Difference>,
}

/// The page of a timeline, or of two, one above the other.
///
/// # Errors
/// If the data cannot be written as JSON.
pub fn page(timeline: &Timeline, beside: Option<&Timeline>) -> serde_json::Result<String> {
    let runs = std::iter::once(timeline).chain(beside).map(packed).collect::<Result<_, _>>()?;
    let difference = beside.and_then(|beside| first_difference(timeline, beside));
    let data = escaped(&serde_json::to_string(&Shown { runs, difference })?);
    let mut page = String::with_capacity(PAGE.len() + STYLE.len() + data.len() + 100_000);
    // One pass, so that nothing is filled in within what was filled in.
    let mut remaining = PAGE;
    while let Some((before, after)) = remaining.split_once("<!--#") {
        page.push_str(before);
        let (name, after) = after.split_once("#-->").unwrap_or((after, ""));
        match name {
            "title" => page.push_str(&text(&title(timeline))),
            "style" => page.push_str(STYLE),
            "data" => page.push_str(&data),
            "script" => SCRIPTS.iter().for_each(|script| page.push_str(script)),
            _ => {}
        }
        remaining = after;
    }
    page.push_str(remaining);
    Ok(page)
}

fn title(timeline: &Timeline) -> String {
    match timeline.violations.first() {
        Some(violation) => format!("{}: {}", timeline.run.title, violation.name),
        None => timeline.run.title.clone(),
    }
}

/// JSON that cannot end the element that it is in. U+2028 and U+2029 are line ends to older parsers.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

/// A text in HTML.
fn text(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::About;

    #[test]
    fn the_page_loads_nothing_and_every_text_in_it_is_escaped() {
        let attack = "</script><script>alert(1)</script><!--#style#-->";
        let run = About { title: attack.to_owned(), ..About::default() };
        let timeline = Timeline { run, sources: vec![attack.to_owned()], ..Timeline::default() };
        let page = page(&timeline, Some(&timeline)).expect("a page");
        assert!(!page.contains("<script>alert"), "the data are escaped");
        assert!(page.contains("\\u003c/script>"), "and are there");
        assert_eq!(page.matches("</script>").count(), 2, "the data and the program");
        assert!(!page.contains("<!--#style"), "nothing is left to fill in, or filled in twice");
        for loads in ["src=", "href=\"http", "url(", "@import", "fetch(", "XMLHttpRequest", "innerHTML"] {
            assert!(!page.contains(loads), "{loads}");
        }
    }
}
