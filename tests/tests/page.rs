//! The page that `bpfkit dump --format html` writes: as a text, and in a browser where there is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpfkit_tests::browser::Browser;
use bpfkit_tests::programs::{fixture, printed};
use serde_json::{Value, json};

/// The page for a line such as `tcpconnect -P 80`, for Linux 5.10.
fn page(line: &str) -> String {
    let types = fixture("btf/5.10.btf");
    printed(&format!("dump --format html {line} --kernel 5.10 --btf {}", types.display())).unwrap()
}

/// A tag with its attributes.
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
    closes_itself: bool,
}

/// The tags of a page in order, without what is in the script, the style and the data.
fn tags(page: &str) -> Vec<Tag> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some((text, tag)) = rest.split_once('<') {
        assert!(!text.contains('>'), "{text}");
        let (tag, after) = tag.split_once('>').expect("a tag ends");
        let closes_itself = tag.ends_with('/');
        let (name, attributes) = tag.trim_end_matches('/').split_once(char::is_whitespace).unwrap_or((tag, ""));
        tags.push(Tag { name: name.to_owned(), attributes: attributes_of(attributes), closes_itself });
        rest = after;
        if matches!(name, "script" | "style") {
            rest = &rest[rest.find(&format!("</{name}>")).expect("it ends")..];
        }
    }
    tags
}

/// Those with a value in quotation marks, and those without a value.
fn attributes_of(mut text: &str) -> Vec<(String, String)> {
    let mut attributes = Vec::new();
    while !text.trim().is_empty() {
        text = text.trim_start();
        let (name, rest) = text.split_at(text.find(['=', ' ']).unwrap_or(text.len()));
        let (value, rest) =
            rest.strip_prefix("=\"").map_or(("", rest), |value| value.split_once('"').expect("a value ends"));
        attributes.push((name.to_owned(), value.to_owned()));
        text = rest;
    }
    attributes
}

/// Checks what a browser would forgive, and that nothing is loaded from anywhere.
fn check(line: &str, page: &str) {
    let (mut open, mut ids, mut links) = (Vec::new(), BTreeSet::new(), Vec::new());
    for Tag { name, attributes, closes_itself } in tags(page) {
        if let Some(name) = name.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "{line}");
        } else if !closes_itself && !matches!(name.as_str(), "!DOCTYPE" | "meta" | "input" | "br") {
            open.push(name.clone());
        }
        for (key, value) in attributes {
            assert!(!key.starts_with("on") && key != "src" && key != "style", "{line}: {name} {key}");
            match key.as_str() {
                "id" => assert!(ids.insert(value.clone()), "{line}: {value} twice"),
                "href" => links.push(value.strip_prefix('#').unwrap_or_else(|| panic!("{value}")).to_owned()),
                "aria-labelledby" | "for" => links.push(value),
                _ => {}
            }
        }
    }
    assert!(open.is_empty(), "{line}: {open:?}");
    for link in links {
        assert!(ids.contains(&link), "{line}: nothing has the id {link}");
    }
    for elsewhere in ["http:", "https:", "href=\"/", "@import", "url("] {
        assert!(!page.contains(elsewhere), "{line}: {elsewhere}");
    }
}

#[test]
fn every_tag_is_closed_every_id_is_the_only_one_and_every_link_leads_somewhere() {
    for line in ["tcpconnect", "bpf2bpf", "execsnoop -x", "gethostlatency", "writehist", "skbrecv", "icmpecho"] {
        check(line, &page(line));
    }
}

/// The page has the object that `--format json` prints, in which nothing can end the element that it is in.
#[test]
fn the_data_is_the_json_of_the_programs() {
    let page = page("bpf2bpf");
    let (_, data) = page.split_once("<script type=\"application/json\" id=\"data\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    assert!(!data.contains('<'));
    let types = fixture("btf/5.10.btf");
    let json =
        printed(&format!("dump --format json bpf2bpf --explain --kernel 5.10 --btf {}", types.display())).unwrap();
    let programs: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(serde_json::from_str::<Vec<Value>>(data).unwrap(), programs);
}

/// `cargo doc` links to a page of each tool, which `examples/pages.rs` writes.
#[test]
fn each_tool_s_documentation_links_to_its_page() {
    let cli = bpfkit::cli::Cli::whole();
    let tools = cli.find_subcommand("dump").unwrap().get_subcommands().map(|tool| tool.get_name().to_owned());
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/src");
    for tool in tools {
        let file = [format!("{tool}.rs"), format!("{tool}/mod.rs")].map(|name| source.join(name));
        let text = file.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_else(|| panic!("{tool}"));
        assert!(text.contains(&format!("//! [Its programs](../../pages/{tool}.html)")), "{tool}");
    }
}

/// Style and script run because the policy has their digests: `BLESS=1` writes it.
#[test]
fn the_policy_names_the_style_and_the_script() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tools/src/dump/page");
    let digest = |name: &str| {
        let said = Command::new("sha256sum").arg(page.join(name)).output().expect("coreutils");
        let hex = String::from_utf8(said.stdout).unwrap();
        let bytes = (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap());
        base64(&bytes.collect::<Vec<u8>>())
    };
    let expected = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; base-uri 'none'; form-action 'none'\n",
        digest("page.css"),
        digest("page.js")
    );
    if std::env::var_os("BLESS").is_some() {
        fs::write(page.join("policy"), &expected).unwrap();
    }
    assert_eq!(fs::read_to_string(page.join("policy")).unwrap(), expected);
}

fn base64(bytes: &[u8]) -> String {
    let letter = |value: u32| {
        let value = u8::try_from(value & 63).unwrap();
        char::from(match value {
            0..26 => b'A' + value,
            26..52 => b'a' + value - 26,
            52..62 => b'0' + value - 52,
            62 => b'+',
            _ => b'/',
        })
    };
    let of = |chunk: &[u8]| -> String {
        let value = (0..3).fold(0, |value, at| value << 8 | chunk.get(at).map_or(0, |&byte| u32::from(byte)));
        let letters = [value >> 18, value >> 12, value >> 6, value].map(letter);
        (0..4).map(|at| if at <= chunk.len() { letters[at] } else { '=' }).collect()
    };
    bytes.chunks(3).map(of).collect()
}

#[test]
fn a_page_is_a_file_or_goes_to_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("page.html");
    let types = fixture("btf/5.10.btf");
    let line = format!("dump --format html tcpconnect --kernel 5.10 --btf {} -o {}", types.display(), file.display());
    assert_eq!(printed(&line).unwrap(), "");
    assert_eq!(fs::read_to_string(file).unwrap(), page("tcpconnect"));
}

/// A page as a file, as a person has it.
struct Opened {
    browser: Browser,
    _directory: tempfile::TempDir,
    file: PathBuf,
}

impl Opened {
    fn page(line: &str) -> Option<Self> {
        Self::start(&page(line))
    }

    /// None where there is no browser, which is said.
    fn start(page: &str) -> Option<Self> {
        let browser = match Browser::start() {
            Ok(browser) => browser,
            Err(error) => {
                println!("skipped: {error}");
                return None;
            }
        };
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("page.html");
        fs::write(&file, page).unwrap();
        Some(Self { browser, _directory: directory, file })
    }

    fn show(&mut self, hash: &str, width: u32, scheme: &str) {
        self.browser.open(&self.file, hash, width, scheme);
    }

    fn eval(&mut self, expression: &str) -> Value {
        self.browser.eval(expression)
    }

    /// The first slot of the fourth program, `accept`, whose instruction meets a condition.
    fn find(&mut self, condition: &str) -> u64 {
        let found = self.eval(&format!("programs[3].instructions.find(insn => {condition})?.slot"));
        found.as_u64().unwrap_or_else(|| panic!("{condition}"))
    }

    /// The rows that have a class, by their ids.
    fn rows(&mut self, class: &str) -> Value {
        self.eval(&format!("[...document.querySelectorAll('tr.{class}')].map(row => row.id)"))
    }

    fn hash(&mut self) -> String {
        self.browser.settle();
        self.eval("location.hash").as_str().unwrap().to_owned()
    }

    fn check_quiet(&mut self) {
        assert_eq!(self.browser.complaints(), Vec::<String>::new());
    }
}

#[test]
fn an_instruction_is_marked_in_every_column_and_in_the_graph() {
    let Some(mut page) = Opened::page("bpf2bpf") else { return };
    page.show("", 1440, "light");
    // Slots of the program `accept`: a condition, where it goes, a call in a later block, all of one line of the source.
    let jump = page.find("insn.text.includes('== 0xa goto')");
    let to = page.eval(&format!("programs[3].instructions.find(insn => insn.slot === {jump}).to")).as_u64().unwrap();
    let end = page.find("insn.text.includes('#value_of')");
    let line = "programs[3].instructions.filter(insn => insn.source.text === 'call {read}').map(insn => insn.slot)";
    let lines: Vec<u64> = page.eval(line).as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert!(lines.len() > 2, "{lines:?}");

    page.show(&format!("accept/{jump}"), 1440, "light");
    let visible = page.eval("[...document.querySelectorAll('.program:not([hidden])')].map(section => section.id)");
    assert_eq!(visible, json!(["accept"]));
    assert_eq!(page.rows("chosen"), json!([format!("accept/{jump}")]));
    assert_eq!(page.rows("to"), json!([format!("accept/{to}")]));
    assert_eq!(page.eval("document.querySelector('.graph .on').dataset.s"), jump.to_string());
    let block = page.eval("document.querySelector('.block.chosen').textContent");
    assert!(block.as_str().unwrap().contains(&format!("{jump}: if r1 == 0xa goto")), "{block}");
    assert_eq!(page.eval("document.querySelector('.block.to').getAttribute('href')"), format!("#accept/{to}"));
    let card = page.eval("document.querySelector('#accept .card').textContent");
    assert!(card.as_str().unwrap().starts_with(&format!("accept, slot {jump}Source")), "{card}");

    page.show(&format!("accept/{}", lines[0]), 1440, "light");
    assert_eq!(page.rows("same"), json!(lines.iter().map(|slot| format!("accept/{slot}")).collect::<Vec<_>>()));
    // A jump is followed, and shows where it came from.
    page.show(&format!("accept/{jump}"), 1440, "light");
    page.browser.click("fieldset label:nth-of-type(4) input");
    page.browser.click(&format!("[id=\"accept/{jump}\"] .ref a"));
    assert_eq!(page.hash(), format!("#accept/{to}"));
    assert_eq!(page.rows("from"), json!([format!("accept/{jump}")]));
    // From the graph to the listing.
    page.browser.click(&format!("#accept [data-s=\"{end}\"]"));
    assert_eq!((page.hash(), page.rows("chosen")), (format!("#accept/{end}"), json!([format!("accept/{end}")])));
    let seen = "(() => { const row = document.querySelector('.chosen').getBoundingClientRect(); \
                return row.top > 0 && row.bottom < innerHeight; })()";
    assert_eq!(page.eval(seen), true);
    // From a row of the listing to the graph, and back by the browser's own way.
    page.browser.click(&format!("[id=\"accept/{}\"] .ins", end + 1));
    assert_eq!(page.hash(), format!("#accept/{}", end + 1));
    assert_eq!(page.eval("document.querySelector('.graph .on').dataset.s"), (end + 1).to_string());
    page.eval("history.back()");
    page.browser.settle();
    assert_eq!(page.hash(), format!("#accept/{end}"));
    page.check_quiet();
}

#[test]
fn keys_go_through_the_listing() {
    let Some(mut page) = Opened::page("bpf2bpf") else { return };
    page.show("", 1440, "light");
    let slots = page.eval("programs[0].instructions.map(insn => insn.slot)");
    let last = slots.as_array().unwrap().len() - 1;
    for (key, at) in [("ArrowDown", 0), ("ArrowDown", 1), ("End", last), ("ArrowUp", last - 1), ("Home", 0)] {
        page.browser.press(key);
        assert_eq!(page.hash(), format!("#connect/{}", slots[at]), "{key}");
    }
    assert_eq!(page.eval("document.activeElement.id"), "connect/0");
    assert_eq!(page.eval("document.activeElement.getAttribute('aria-current')"), "true");
    // To where a jump goes.
    while page.eval("document.querySelector('.chosen .ins').textContent.includes('goto')") != true {
        page.browser.press("ArrowDown");
    }
    let target = page.eval("document.querySelector('tr.to').id").as_str().unwrap().to_owned();
    page.browser.press("Enter");
    assert_eq!(page.hash(), format!("#{target}"));

    page.browser.press("/");
    for key in ["P", "e", "r", "f", "_"] {
        page.browser.press(key);
    }
    let found = page.eval("document.querySelectorAll('tr.hit').length").as_u64().unwrap();
    assert!(found > 6, "{found}");
    assert_eq!(page.eval("document.getElementById('found').textContent"), format!("{found} found"));
    page.browser.press("Enter");
    assert_eq!(page.eval("document.getElementById('found').textContent"), format!("1 of {found}"));
    assert_eq!(page.eval("document.querySelector('.chosen').classList.contains('hit')"), true);
    page.browser.press("Escape");
    assert_eq!(page.rows("hit"), json!([]));
    // From the link to another program into its listing.
    page.browser.click("nav a[href='#accept']");
    page.browser.press("ArrowDown");
    assert_eq!(page.hash(), "#accept/0");
    // Backwards from where nothing is chosen that was found: to the last.
    page.eval("search.value = 'exit'; find(); search.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', shiftKey: true}))");
    let said = page.eval("document.getElementById('found').textContent").as_str().unwrap().to_owned();
    let (at, of) = said.split_once(" of ").expect("one of several");
    assert!(at == of && at != "1", "{said}");
    page.check_quiet();
}

#[test]
fn cards_tell_of_fields_helpers_and_maps() {
    let Some(mut page) = Opened::page("tcpconnect --probe kprobe") else { return };
    let field = "sock.__sk_common.skc_portpair";
    page.show(&format!("field/{field}"), 1440, "light");
    let card = page.eval("document.querySelector('article:target dl').textContent");
    assert!(card.as_str().unwrap().starts_with("Type__portpairOffset12 bytesSize4 bytesUsed at"), "{card}");
    page.browser.click("article:target dd a");
    let first = page.eval("programs[0].instructions.find(insn => insn.field).slot");
    assert_eq!(page.hash(), format!("#v4_connect_r/{first}"));
    let cards = "[...document.querySelectorAll('#v4_connect_r .card article h4')].map(title => title.textContent)";
    assert_eq!(page.eval(cards), json!([field]));
    let at = "programs[0].instructions.find(insn => insn.helper?.startsWith('bpf_perf_event_output')).slot";
    let at = page.eval(at);
    page.show(&format!("v4_connect_r/{at}"), 1440, "light");
    assert_eq!(page.eval(cards), json!(["bpf_perf_event_output"]));
    let card = page.eval("document.querySelector('#v4_connect_r .card article').textContent");
    for part in ["Number25", "SinceLinux 4.4", "Prototypelong bpf_perf_event_output(void *ctx, struct bpf_map *map"] {
        assert!(card.as_str().unwrap().contains(part), "{part}: {card}");
    }
    page.browser.click("fieldset label:nth-of-type(4) input");
    page.browser.click("#v4_connect_r tr[id] .ref a[href=\"#map/sockets\"]");
    assert_eq!(page.hash(), "#map/sockets");
    let card = page.eval("document.querySelector('article:target').textContent");
    assert!(card.as_str().unwrap().contains("TypehashKey8 bytesValue8 bytesElements10240"), "{card}");
    page.check_quiet();
}

/// Two kernels beside each other: what differs is marked, told why, and can be looked at alone.
#[test]
fn a_difference_is_a_page_too() {
    let (old, new) = (fixture("btf/5.10.btf"), fixture("btf/7.2.btf"));
    let line = format!(
        "dump tcpconnect --probe kprobe --format html --diff 4.18,btf={} --diff 7.2,btf={}",
        old.display(),
        new.display()
    );
    let text = printed(&line).unwrap();
    check("--diff", &text);
    let Some(mut page) = Opened::start(&text) else { return };
    page.show("", 1440, "light");
    let changed = page.eval("document.querySelector('#v4_connect_r tr.changed .why').textContent");
    assert_eq!(
        changed,
        "bpf_probe_read -> bpf_probe_read_kernel of Linux 5.5; decided by probe-read-kernel (Linux 5.5)"
    );
    let shown = "[...document.querySelectorAll('#v4_connect_r tr[id]')].filter(row => row.offsetHeight).length";
    let all = page.eval(shown).as_u64().unwrap();
    let same = page.eval("document.querySelectorAll('#v4_connect_r tr.equal').length").as_u64().unwrap();
    assert!(0 < same && same < all, "{same} of {all}");
    page.browser.click("fieldset label:last-child input");
    assert_eq!(page.eval(shown).as_u64(), Some(all - same));
    // Whoever has ticked a box goes on with the arrows.
    assert_eq!(page.eval("document.activeElement.type"), "checkbox");
    page.browser.press("ArrowDown");
    assert_eq!(page.eval("document.querySelector('.chosen .why').textContent").as_str(), changed.as_str());
    page.check_quiet();
}

/// The kernel's verifier and its compiler have columns of their own, and heat the graph.
#[test]
fn what_the_kernel_says_is_on_the_page() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    if !status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"])) {
        println!("skipped: it takes root");
        return;
    }
    let text = printed("dump writehist --probe tracepoint --verifier --jited --format html").unwrap();
    check("--verifier --jited", &text);
    assert!(text.contains("<p>the verifier takes it: "), "{text}");
    assert!(text.contains("The thickest line is where the verifier came most often."));
    assert!(text.contains("&gt; R6: a pointer to the context"));
    let machine = text.matches("<td class=\"asm\">").count();
    assert!(machine > 20, "{machine}");
    let Some(mut page) = Opened::start(&text) else { return };
    page.show("", 1440, "light");
    page.browser.press("ArrowDown");
    let terms = page.eval("[...document.querySelectorAll('.card dt')].map(term => term.textContent)");
    let expected = ["Source", "Instruction", "Explanation", "Verifier", "Machine code", "Bytes"];
    assert_eq!(terms, json!(expected));
    page.check_quiet();
}

/// What is seen, at two widths and in both schemes; `SCREENSHOTS=DIRECTORY` keeps pictures.
#[test]
fn a_wide_and_a_narrow_window_in_light_and_dark_have_room_for_it() {
    let Some(mut page) = Opened::page("bpf2bpf") else { return };
    let directory = std::env::var_os("SCREENSHOTS").map(PathBuf::from);
    for width in [1440, 1024, 420] {
        let mut backgrounds = BTreeSet::new();
        for scheme in ["light", "dark"] {
            for (name, hash) in [("listing", "accept/33"), ("reference", "reference")] {
                page.show(hash, width, scheme);
                // The page itself never scrolls to the side.
                assert_eq!(page.eval("document.documentElement.scrollWidth"), width, "{width} {scheme} {hash}");
                assert_eq!(page.eval("document.querySelector('header').getBoundingClientRect().top"), 0);
                // What an instruction does is told beside it, and not where one has to scroll to.
                let column =
                    "document.querySelector('.program:not([hidden]) thead th.why')?.getBoundingClientRect().right ?? 0";
                let right = page.eval(column).as_f64().unwrap();
                assert!(right <= f64::from(width) && (right > 0.0) == (name == "listing"), "{width}: {right}");
                if let Some(directory) = &directory {
                    page.browser.settle();
                    page.browser.screenshot(&directory.join(format!("{name}-{width}-{scheme}.png")));
                }
                page.check_quiet();
            }
            let colour = page.eval("getComputedStyle(document.body).backgroundColor");
            backgrounds.insert(colour.as_str().unwrap().to_owned());
        }
        assert_eq!(backgrounds.len(), 2);
    }
}

/// What a screen reader is told: everything that can be used has a name, and the listing is a table.
#[test]
fn all_that_can_be_used_has_a_name() {
    let Some(mut page) = Opened::page("tcpconnect") else { return };
    page.show("", 1440, "light");
    let tree = page.browser.call("Accessibility.getFullAXTree", &json!({}));
    let nodes = tree["nodes"].as_array().unwrap();
    let of = |role: &str| nodes.iter().filter(|node| node["ignored"] == false && node["role"]["value"] == role).count();
    for role in
        ["table", "columnheader", "rowheader", "row", "link", "searchbox", "checkbox", "region", "figure", "navigation"]
    {
        assert!(of(role) > 0, "{role}");
    }
    for node in nodes.iter().filter(|node| node["ignored"] == false) {
        let role = node["role"]["value"].as_str().unwrap_or_default();
        if matches!(role, "link" | "button" | "checkbox" | "searchbox" | "region" | "navigation" | "heading") {
            assert_ne!(node["name"]["value"], "", "{node}");
        }
    }
}

#[test]
fn the_listing_is_there_without_the_script_and_no_other_script_runs() {
    let Some(mut page) = Opened::page("tcpconnect") else { return };
    page.browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": true}));
    page.show("", 1440, "light");
    let tree = page.browser.call("Accessibility.getFullAXTree", &json!({}));
    let told = tree.to_string();
    for part in ["v4_connect_r", "v6_connect", "bpf_get_current_pid_tgid", "skc_portpair"] {
        assert!(told.contains(part), "{part}");
    }
    page.browser.call("Emulation.setScriptExecutionDisabled", &json!({"value": false}));
    page.show("", 1440, "light");
    let inject = "(() => { const script = document.createElement('script'); script.textContent = 'window.broken = 1'; \
                  document.body.append(script); document.body.insertAdjacentHTML('beforeend', \
                  '<img src=\"http://127.0.0.1:9/\" onerror=\"window.broken = 1\">'); })()";
    page.eval(inject);
    page.browser.settle();
    assert_eq!(page.eval("window.broken"), Value::Null);
}
