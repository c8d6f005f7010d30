//! What is deployed beside the gateway, and its manual, speak of metrics that it has: the alerts, the dashboard and
//! the table are held against a real `/metrics`. What the alerts ring for is `promtool`'s to say (`deploy/check`).

mod expression;
mod page;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use self::expression::{faults, templates};
use self::page::Page;
use super::harness::{Client, Crew, Gate, Names, connect_v3, connect_v5, raw, simple, until};

/// A gateway with a bit of all that has metrics, and two sessions.
async fn scraped() -> Page {
    let (names, crew) = (Names::serve().await, Crew::serve("").await);
    names.addresses("brokers.test", [[127, 0, 0, 1]]);
    let port = crew.address().port();
    let endpoint =
        format!("{{ url = \"mqtt://brokers.test:{port}\", name = \"all\", discover = \"addresses\" }}");
    let more = format!("probe = {{ kind = \"mqtt\", interval = \"20ms\" }}\n{}", names.toml());
    let gate = Gate::start(&simple(&[endpoint], &more)).await;
    let mut clients = Vec::new();
    for (mut client, connect, connack) in [
        (Client::plain(gate.plain()).await, connect_v3("plain", 60), vec![0x20, 2, 0, 0]),
        (Client::tls(gate.tls()).await, connect_v5("tls", 60), vec![0x20, 3, 0, 0, 0]),
    ] {
        client.say(&connect).await;
        assert_eq!(client.hear_mqtt(connack.len()).await, connack);
        clients.push(client);
    }
    // It is looked at once the gateway serves.
    let has_certificate = || gate.shared.metrics.render().contains("brokergate_certificate_expiry");
    until("the certificate", has_certificate).await;
    let request = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let answer = raw(gate.admin(), request).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("version=0.0.4"), "{head}");
    Page::parse(body)
}

#[tokio::test]
async fn the_manual_lists_each_metric_with_its_labels_and_no_other() {
    let page = scraped().await;
    let exported: BTreeSet<_> = page.metrics().collect();
    let manual = read("docs/operations.md");
    let documented = documented(&manual);
    let difference: Vec<_> = exported.symmetric_difference(&documented).collect();
    assert!(difference.is_empty(), "only in /metrics or only in docs/operations.md: {difference:#?}");
    // Each has a unit and a meaning, and a help of its own.
    for row in table(&manual) {
        assert!(row.iter().enumerate().all(|(at, cell)| at == 2 || !cell.is_empty()), "{row:?}");
    }
    assert!(page.families().all(|(_, family)| !family.help.is_empty()));
}

#[tokio::test]
async fn alerts_and_dashboard_use_metrics_that_there_are() {
    let page = scraped().await;
    let alerts = alerts();
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(alerts.len() >= 12 && queries.len() >= 20, "{} and {}", alerts.len(), queries.len());
    let of_alerts = alerts.iter().flat_map(|alert| {
        let words = templates(&alert.text, "$labels.");
        faults(&alert.expression, &words, &page).into_iter().map(|fault| format!("{}: {fault}", alert.name))
    });
    let variables = variables(&dashboard);
    let of_dashboard = queries.iter().chain(&variables).flat_map(|query| {
        let words = templates(&query.legend, "");
        faults(&query.expression, &words, &page).into_iter().map(|fault| format!("{}: {fault}", query.panel))
    });
    let faults: Vec<String> = of_alerts.chain(of_dashboard).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn what_is_not_there_is_found() {
    let page = Page::parse(
        "# HELP a_total A\n# TYPE a_total counter\na_total{reason=\"x\",by=\"y\"} 1\n\
         # HELP b_seconds B\n# TYPE b_seconds histogram\nb_seconds_bucket{le=\"+Inf\"} 0\nb_seconds_sum 0\nb_seconds_count 0\n",
    );
    let wrong = |expression: &str, words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        faults(expression, &words, &page).join("; ")
    };
    let good = "sum by (instance, reason) (rate(a_total{reason=~\"x|z.*\",job=\"brokergate\"}[5m])) > 1.5e3";
    assert_eq!(wrong(good, &["reason", "instance"]), "reason has no value \"z.*\" in a_total");
    assert_eq!(wrong("rate(a_totals[$__rate_interval])", &[]), "there is no metric a_totals");
    assert_eq!(wrong("a_total{reasons=\"x\"}", &[]), "a_total has no label reasons");
    assert_eq!(wrong("a_total{reason!=\"w\"}", &[]), "reason has no value \"w\" in a_total");
    assert_eq!(wrong("sum by (cause) (a_total)", &[]), "no metric here has a label cause");
    assert_eq!(wrong("sum by (by) (a_total)", &["reason"]), "the words use reason, which it does not give");
    assert_eq!(wrong("a_total", &["reason", "cause"]), "the words use cause, which it does not give");
    assert_eq!(wrong("histogram_quantile(0.9, sum by (le) (rate(b_seconds_bucket[5m])))", &[]), "");
    assert_eq!(wrong("b_seconds", &[]), "there is no metric b_seconds");
    assert_eq!(wrong("b_seconds_count{le=\"1\"}", &[]), "b_seconds_count has no label le");
    assert_eq!(wrong("absent(up{job=\"x\"}) and on (job) a_total offset 1h unless vector(1)", &[]), "");
    assert_eq!(wrong("1 + 2", &[]), "it asks for no metric");
}

#[test]
fn each_alert_says_what_to_do_and_is_tried() {
    let tried = read("deploy/prometheus/brokergate.rules.test.yml");
    let alerts = alerts();
    for alert in &alerts {
        let name = &alert.name;
        assert!(["critical", "warning"].contains(&&*alert.severity), "{name}: severity {:?}", alert.severity);
        assert!(alert.waits.ends_with(['m', 'h']), "{name}: for {:?}", alert.waits);
        assert!(alert.summary.len() > 20 && alert.description.len() > 80, "{name} says too little");
        assert!(tried.contains(&format!("alertname=\"{name}\"")), "{name} is not tried");
    }
    let names: BTreeSet<_> = alerts.iter().map(|alert| &alert.name).collect();
    assert_eq!(names.len(), alerts.len(), "two alerts of one name");
}

#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is another's");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} is too wide");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} lies on another");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        assert!(
            panel["description"].as_str().is_some_and(|words| words.len() > 20),
            "{title} explains nothing"
        );
        let targets = panel["targets"].as_array().unwrap();
        let letters: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert!(!letters.is_empty() && letters.len() == targets.len(), "{title}");
    }
    for query in queries(&dashboard) {
        let is_narrowed = query.expression.contains("instance=~\"$instance\"");
        assert!(is_narrowed, "{} asks for all instances: {}", query.panel, query.expression);
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance", "upstream"]);
    assert!(dashboard["id"].is_null() && dashboard["uid"] == "brokergate", "it is imported anywhere");
}

// --- What is read --------------------------------------------------------------------------------------

/// The rows of the manual's table: name, type, labels, unit, meaning.
fn table(manual: &str) -> Vec<[String; 5]> {
    let section = manual.split("\n## ").find(|section| section.starts_with("Metrics\n")).unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cell = |row: &str, at: usize| row.split('|').nth(at + 1).unwrap_or_default().trim().to_owned();
    rows.map(|row| std::array::from_fn(|at| cell(row, at))).collect()
}

/// As [`Page::metrics`] gives them.
fn documented(manual: &str) -> BTreeSet<(String, String, Vec<String>)> {
    let rows = table(manual);
    let metrics: BTreeSet<_> = rows
        .iter()
        .map(|[name, kind, labels, ..]| {
            let labels: BTreeSet<_> = labels.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (name.replace('`', ""), kind.clone(), labels.into_iter().collect())
        })
        .collect();
    assert!(metrics.len() == rows.len() && metrics.len() > 40, "{} rows", rows.len());
    metrics
}

struct Alert {
    name: String,
    expression: String,
    waits: String,
    severity: String,
    summary: String,
    description: String,
    /// Both of them.
    text: String,
}

/// The alerts, as their file is written: a key a line, or `>-` and deeper lines.
fn alerts() -> Vec<Alert> {
    let file = read("deploy/prometheus/brokergate.rules.yml");
    let lines = || file.lines().filter(|line| !line.trim_start().starts_with('#'));
    let text: Vec<&str> = lines().collect();
    let mut alerts = Vec::new();
    for block in text.join("\n").split("- alert: ").skip(1) {
        let (name, block) = block.split_once('\n').unwrap();
        let value = |key: &str| value(block, key);
        let severity = value("labels").replace("{ severity: ", "").replace(" }", "");
        let (summary, description) = (value("summary"), value("description"));
        let text = format!("{summary} {description}");
        let (expression, waits) = (value("expr"), value("for"));
        alerts.push(Alert {
            name: name.trim().into(),
            expression,
            waits,
            severity,
            summary,
            description,
            text,
        });
    }
    alerts
}

fn value(block: &str, key: &str) -> String {
    let mut lines = block.lines();
    let depth = |line: &str| line.len() - line.trim_start().len();
    while let Some(line) = lines.next() {
        let Some(value) = line.trim_start().strip_prefix(key).and_then(|rest| rest.strip_prefix(':')) else {
            continue;
        };
        if value.trim() != ">-" {
            return value.trim().trim_matches('"').to_owned();
        }
        let folded: Vec<_> = lines.take_while(|below| depth(below) > depth(line)).map(str::trim).collect();
        return folded.join(" ");
    }
    panic!("an alert has no {key}: {block}")
}

struct Query {
    panel: String,
    expression: String,
    legend: String,
}

fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/dashboard.json")).unwrap()
}

/// What the panels and variables of the dashboard ask for.
fn queries(dashboard: &Value) -> Vec<Query> {
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            queries.push(Query {
                panel: panel["title"].as_str().unwrap().to_owned(),
                expression: target["expr"].as_str().unwrap().to_owned(),
                legend: target["legendFormat"].as_str().unwrap_or_default().to_owned(),
            });
        }
    }
    queries
}

/// Where its variables have their values from: `label_values(a_metric{…}, label)`.
fn variables(dashboard: &Value) -> Vec<Query> {
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let of_metrics = variables.iter().filter(|variable| variable["type"] == "query");
    let read = |variable: &Value| {
        let query = variable["query"].as_str().unwrap();
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')).unwrap();
        let (selector, label) = inside.rsplit_once(", ").unwrap();
        let panel = format!("variable {}", variable["name"]);
        Query { panel, expression: selector.to_owned(), legend: format!("{{{{{label}}}}}") }
    };
    of_metrics.map(read).collect()
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
