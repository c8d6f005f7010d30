//! `POST /kick`: sessions are asked to go, by their ClientID or one by its id.

use http::{Response, StatusCode, Uri};
use tracing::info;

use super::Served;
use super::answer::told;
use super::query::{self, Refused, no_parameter, pairs};
use super::which::{Named, Which};
use crate::drain::Will;
use crate::net::Body;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
struct Asks {
    which: Which,
    will: Option<Will>,
}

/// `POST /kick`. `who` asks.
pub(super) async fn kick(served: &Served, uri: &Uri, who: &str) -> Response<Body> {
    told(carry_out(served, uri, who).await)
}

async fn carry_out(served: &Served, uri: &Uri, who: &str) -> Result<String, Refused> {
    let Asks { which, will } = Asks::read(uri.query())?;
    let will = will.unwrap_or_else(|| served.shared.snapshot.load().config.drain.terms().will);
    let mut kicked = 0;
    which.each(&served.shared.roster, |_, entry| kicked += usize::from(entry.kick(will))).await;
    let (client_id, session) = match which {
        Which::Client(client_id) => (Some(client_id), None),
        Which::Session(id) => (None, Some(id.to_string())),
    };
    info!(by = %who, client_id, session, will = will.label(), kicked, "sessions are kicked by hand");
    match kicked {
        0 => Err((StatusCode::NOT_FOUND, "there is no such session, or it is on its way already".to_owned())),
        1 => Ok("1 session is asked to go".to_owned()),
        many => Ok(format!("{many} sessions are asked to go")),
    }
}

impl Asks {
    fn read(query: Option<&str>) -> Result<Self, Refused> {
        let (mut named, mut will) = (Named::nothing("/kick"), None);
        for pair in pairs(query) {
            let (name, value) = pair?;
            match name {
                "client_id" => named.client_id(value)?,
                "session" => named.session(&value)?,
                "will" => will = Some(query::will(&value)?),
                _ => return Err(no_parameter(name, ["client_id", "session", "will"])),
            }
        }
        Ok(Self { which: named.which()?, will })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::query::tells_mistakes;

    #[test]
    fn a_mistake_says_what_to_write() {
        let mistakes = [
            ("client_id=", "names nobody"),
            ("session=7", "as /sessions shows it"),
            ("will=maybe", "fire or suppress"),
            ("client=a", "is no parameter here"),
            ("will=fire", "/kick?client_id=X or /kick?session=ID"),
        ];
        tells_mistakes(Asks::read, &mistakes);
        let asks = Asks::read(Some("session=0-37-5021&will=suppress")).unwrap();
        let which = Which::Session("0-37-5021".parse().unwrap());
        assert_eq!(asks, Asks { which, will: Some(Will::Suppress) });
    }
}
