//! A browser without a window, spoken to by the DevTools protocol over pipes: JSON texts that end with a NUL.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// How long an answer may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running browser with one open page.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    commands: File,
    messages: Receiver<Value>,
    events: VecDeque<Value>,
    session: Option<String>,
    last: u64,
    /// Its profile; removed with it.
    _directory: TempDir,
}

impl Browser {
    /// Starts the browser that this machine has.
    ///
    /// # Errors
    /// Why there is none.
    ///
    /// # Panics
    /// Not itself, but its reader: when the browser says what is no message of the protocol.
    pub fn start() -> Result<Self, String> {
        let names = ["chromium", "chromium-browser", "google-chrome"];
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let found = names.iter().flat_map(|name| std::env::split_paths(&paths).map(move |path| path.join(name)));
        let program = found.into_iter().find(|path| path.is_file()).ok_or("there is no chromium")?;
        let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
        let [commands, answers] = ["commands", "answers"].map(|name| directory.path().join(name));
        let made = Command::new("mkfifo").args([&commands, &answers]).status();
        made.ok().filter(|made| made.success()).ok_or("mkfifo makes no pipes")?;
        // The shell gives it the descriptors 3 and 4, from which it reads and to which it writes.
        let child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<\"$COMMANDS\" 4>\"$ANSWERS\"", "sh"])
            .arg(&program)
            .args("--headless --no-sandbox --disable-gpu --disable-quic --no-first-run".split(' '))
            .args("--disable-background-networking --disable-component-update --disable-sync".split(' '))
            .args(["--hide-scrollbars", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
            .env("COMMANDS", &commands)
            .env("ANSWERS", &answers)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", program.display()))?;
        let open = |error: std::io::Error| error.to_string();
        let commands = File::options().write(true).open(commands).map_err(open)?;
        let answers = File::open(answers).map_err(open)?;
        let (sender, messages) = mpsc::channel();
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).expect("the protocol's messages are JSON");
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        let mut browser =
            Self { child, commands, messages, events: VecDeque::new(), session: None, last: 0, _directory: directory };
        let target = browser.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let session = browser.call("Target.attachToTarget", &attach);
        browser.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network", "Accessibility"] {
            browser.call(&format!("{domain}.enable"), &json!({}));
        }
        browser.call("Page.setLifecycleEventsEnabled", &json!({"enabled": true}));
        Ok(browser)
    }

    /// Calls a method, and waits for its result.
    ///
    /// # Panics
    /// When the browser refuses, or does not answer.
    pub fn call(&mut self, method: &str, params: &Value) -> Value {
        self.last += 1;
        let mut message = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        let mut bytes = serde_json::to_vec(&message).expect("JSON");
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap_or_else(|error| panic!("{method}: {error}"));
        loop {
            let mut message = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == json!(self.last) {
                assert!(message["error"].is_null(), "{method}: {}", message["error"]);
                return message["result"].take();
            }
            self.events.push_back(message);
        }
    }

    /// Opens a file, at a part of it if `hash` is not empty, in a window of this width and with a scheme of colours.
    pub fn open(&mut self, file: &Path, hash: &str, width: u32, scheme: &str) {
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &size);
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", &media);
        // Another part of the same file would not be loaded again.
        self.load("about:blank");
        self.events.clear();
        self.load(&format!("file://{}#{hash}", file.display()));
    }

    fn load(&mut self, url: &str) {
        let page = self.call("Page.navigate", &json!({"url": url}));
        let is_loaded = |event: &Value| {
            let params = &event["params"];
            event["method"] == "Page.lifecycleEvent"
                && params["name"] == "load"
                && params["loaderId"] == page["loaderId"]
        };
        while !self.events.iter().any(is_loaded) {
            let message = self.messages.recv_timeout(PATIENCE).expect("the page is loaded");
            self.events.push_back(message);
        }
    }

    /// The value of an expression of JavaScript.
    ///
    /// # Panics
    /// When it throws.
    pub fn eval(&mut self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", &params);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        result["result"]["value"].take()
    }

    /// Presses a key: `ArrowDown`, `Enter`.
    pub fn press(&mut self, key: &str) {
        let code = match key {
            "Enter" => 13,
            "Tab" => 9,
            "Escape" => 27,
            "End" => 35,
            "Home" => 36,
            "ArrowUp" => 38,
            "ArrowDown" => 40,
            _ => 0,
        };
        let text = if key.len() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            let params = json!({"type": kind, "key": key, "text": text, "windowsVirtualKeyCode": code});
            self.call("Input.dispatchKeyEvent", &params);
        }
    }

    /// Clicks into the middle of what a selector finds, as a person does.
    ///
    /// # Panics
    /// When there is no such element.
    pub fn click(&mut self, selector: &str) {
        let selector = json!(selector);
        let place = format!(
            "(() => {{ const found = document.querySelector({selector}); found.scrollIntoView({{block: 'center', inline: 'center'}}); \
             const box = found.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        );
        let place = self.eval(&place);
        for kind in ["mousePressed", "mouseReleased"] {
            let params = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", &params);
        }
        self.settle();
    }

    /// Waits until what was caused has been done and drawn.
    pub fn settle(&mut self) {
        self.eval("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done))))");
    }

    /// What went wrong since the page was opened, and what it loaded besides itself.
    pub fn complaints(&mut self) -> Vec<String> {
        self.settle();
        let is_bad = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown" | "Runtime.consoleAPICalled" | "Log.entryAdded") => true,
            Some("Network.requestWillBeSent") => {
                let url = event["params"]["request"]["url"].as_str().unwrap_or_default();
                event["params"]["type"] != "Document" && url != "about:blank"
            }
            _ => false,
        };
        self.events.iter().filter(is_bad).map(Value::to_string).collect()
    }

    /// Writes what is seen as a PNG file. It comes in base 64, as `base64` reads it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn screenshot(&mut self, file: &Path) {
        let image = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let text = image["data"].as_str().expect("an image").to_owned();
        let to = File::create(file).expect("a file");
        let mut decoder = Command::new("base64").arg("-d").stdin(Stdio::piped()).stdout(to).spawn().expect("coreutils");
        decoder.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("it reads all");
        assert!(decoder.wait().expect("it ends").success());
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to close it takes its helpers along, and leaves its profile alone, which is removed after this.
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        for _ in 0..50 {
            if self.child.try_wait().is_ok_and(|left| left.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
