//! Decides the device class; the rules are in the documentation of [`device`](super).

use std::fmt;

/// The kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// A computer with a desktop operating system.
    Desktop,
    /// A phone.
    Mobile,
    /// A tablet or e-book reader.
    Tablet,
    /// A program that acts without a person: crawlers, HTTP libraries, headless browsers.
    Bot,
    /// Anything else, and what cannot be told.
    Other,
}

impl Class {
    /// The word for it in the output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desktop => "desktop",
            Self::Mobile => "mobile",
            Self::Tablet => "tablet",
            Self::Bot => "bot",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.as_str())
    }
}

/// What is known of a user agent; each family is `""` where uap-core knows none.
pub(super) struct Signs<'a> {
    pub(super) text: &'a str,
    pub(super) os: &'a str,
    pub(super) browser: &'a str,
    pub(super) device: &'a str,
}

/// Words of televisions, consoles, headsets, watches, and car and home devices.
const APPLIANCES: &[&str] = &[
    "SmartTV",
    "SMART-TV",
    "Smart-TV",
    "Smart TV",
    "AppleTV",
    "Apple TV",
    "GoogleTV",
    "Google TV",
    "AndroidTV",
    "Android TV",
    "HbbTV",
    "BRAVIA",
    "NetCast",
    "NETTV",
    "Web0S",
    "WebTV",
    "InettvBrowser",
    "(DTV",
    "CrKey",
    "Roku",
    "; AFT",
    "PlayStation",
    "PLAYSTATION",
    "Xbox",
    "Nintendo",
    "OculusBrowser",
    "watchOS",
    "Watch OS",
    "SmartSpeaker",
    "QtCarBrowser",
    "AudioAccessory",
    "HomePod",
];

/// Operating systems that only such devices have.
const APPLIANCE_SYSTEMS: &[&str] = &[
    "ATV OS X",
    "Chromecast Android",
    "Chromecast Fuchsia",
    "Chromecast Linux",
    "Chromecast SmartSpeaker",
    "FireHbbTV",
    "GoogleTV",
    "LG",
    "Panasonic",
    "Philips",
    "Roku",
    "Samsung",
    "Sony",
    "WatchOS",
    "Web0S",
    "WebTV",
    "tvOS",
];

const PHONE_SYSTEMS: &[&str] = &[
    "Android",
    "BREW",
    "Bada",
    "BlackBerry OS",
    "Brew MP",
    "Firefox OS",
    "KaiOS",
    "Maemo",
    "MeeGo",
    "Nokia Series 30 Plus",
    "Nokia Series 40",
    "Sailfish",
    "Symbian OS",
    "Symbian^3",
    "Symbian^3 Anna",
    "Symbian^3 Belle",
    "Tizen",
    "VRE",
    "Windows Mobile",
    "Windows Phone",
    "iOS",
    "webOS",
];

/// Programs that fetch pages without a person; crawlers are uap-core's business.
const PROGRAMS: &[&str] = &[
    "AHC",
    "Apache-CXF",
    "Apache-HttpClient",
    "Axel",
    "Go-http-client",
    "Google-HTTP-Java-Client",
    "HTTPClient",
    "HTTPie",
    "HeadlessChrome",
    "Jersey",
    "PhantomJS",
    "PostmanRuntime",
    "PycURL",
    "Python Requests",
    "Python-urllib",
    "ReactorNetty",
    "Vert.x-WebClient",
    "Wget",
    "WindowsPowerShell",
    "aria2",
    "axios",
    "curl",
    "go-resty",
    "got",
    "insomnia",
    "libcurl-agent",
    "libwww-perl",
    "lua-resty-http",
    "reqwest",
    "scalaj-http",
    "wget2",
];

/// Such programs again, where uap-core knows no name for them.
const PROGRAM_PREFIXES: &[&str] = &[
    "Python/",
    "aiohttp/",
    "httpx/",
    "python-httpx/",
    "node-fetch",
    "undici",
    "Java/",
    "Ruby",
    "GuzzleHttp/",
    "PHP/",
    "Deno/",
    "k6/",
];

pub(super) fn class(signs: &Signs<'_>) -> Class {
    let Signs {
        text,
        os,
        browser,
        device,
    } = *signs;
    let says = |word: &str| text.contains(word);
    // Windows Phone carries the word Xbox for its games service.
    if APPLIANCE_SYSTEMS.contains(&os)
        || (os != "Windows Phone" && APPLIANCES.iter().any(|word| says(word)))
    {
        return Class::Other;
    }
    if says("Silk/") || says("Silk-Accelerated") {
        return Class::Tablet;
    }
    if device == "Spider"
        || PROGRAMS.contains(&browser)
        || PROGRAM_PREFIXES.iter().any(|start| text.starts_with(start))
    {
        return Class::Bot;
    }
    if is_tablet(signs) {
        return Class::Tablet;
    }
    if PHONE_SYSTEMS.contains(&os)
        || matches!(device, "Generic Smartphone" | "Generic Feature Phone")
    {
        return Class::Mobile;
    }
    match os {
        "" | "Other" => Class::Other,
        _ => Class::Desktop,
    }
}

fn is_tablet(signs: &Signs<'_>) -> bool {
    let says = |word: &str| signs.text.contains(word);
    if ["iPad", "Kindle", "PlayBook", "TouchPad", "WeTab"]
        .iter()
        .any(|word| says(word))
    {
        return true;
    }
    match signs.os {
        "Windows" => false,
        // An app's HTTP client says nothing about the screen: only browsers say `Mobile`.
        "Android" => {
            signs.device == "Generic Tablet"
                || says("Tablet")
                || (signs.text.starts_with("Mozilla/") && !says("Mobile"))
        }
        "BlackBerry Tablet OS" => true,
        _ => signs.device == "Generic Tablet" || says("Tablet"),
    }
}
