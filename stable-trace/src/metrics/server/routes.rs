//! Which path answers what.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};
use std::time::Instant;

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header::{
        ACCEPT, ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
    },
};
use tokio::sync::oneshot;

use super::{
    collector::{CollectError, Scrape, Scrapes},
    connection_deadline::{Answer, Watch},
    pages,
};
use crate::metrics::{
    exposition::{self, Format},
    negotiate::negotiate,
    series::Build,
    web_config::WebConfig,
};

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// Everything that can be asked for.
pub struct Site {
    looks: Scrapes,
    ready: Arc<AtomicBool>,
    build: Build,
    since: Instant,
    /// What is asked of clients.
    pub web: WebConfig,
}

/// An answer before it is one of HTTP.
struct Said {
    status: StatusCode,
    kind: &'static str,
    text: String,
}

impl Said {
    fn ok(kind: &'static str, text: String) -> Self {
        Self { status: StatusCode::OK, kind, text }
    }

    fn plain(status: StatusCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Self { status, kind: TEXT, text }
    }
}

impl Site {
    /// What looks come from, whether the run is under way, what runs, and what is asked of clients.
    pub fn new(looks: Scrapes, ready: Arc<AtomicBool>, build: Build, web: WebConfig) -> Self {
        Self { looks, ready, build, since: Instant::now(), web }
    }

    /// Answers one request.
    pub async fn answer(&self, request: &Request<Incoming>, watch: &Watch) -> Response<Answer> {
        let said = if self.admits(request).await {
            self.say(request).await
        } else {
            Said::plain(StatusCode::UNAUTHORIZED, "name and password, please")
        };
        let head = request.method() == Method::HEAD;
        let not_allowed = said.status == StatusCode::METHOD_NOT_ALLOWED;
        let body = Bytes::from(said.text);
        let mut response = Response::new(Answer::new(body, watch.clone()));
        *response.status_mut() = said.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(said.kind));
        for (name, value) in &self.web.headers {
            headers.insert(name, value.clone());
        }
        if said.status == StatusCode::UNAUTHORIZED {
            headers
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"stable-trace\""));
        }
        if not_allowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if !request.body().is_end_stream() && !head {
            // Nobody reads what a client sends after its header.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn admits(&self, request: &Request<Incoming>) -> bool {
        match &self.web.passwords {
            None => true,
            Some(passwords) => {
                let authorization = request.headers().get(AUTHORIZATION);
                passwords.admit(authorization.map(HeaderValue::as_bytes)).await
            }
        }
    }

    async fn say(&self, request: &Request<Incoming>) -> Said {
        let path = request.uri().path();
        if !matches!(path, "/" | "/metrics" | "/status" | "/-/healthy" | "/-/ready") {
            return Said::plain(StatusCode::NOT_FOUND, "not found: see / for what is here");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Said::plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered");
        }
        match path {
            "/metrics" => {
                // Several headers of one name stand for one with commas.
                let accept: Vec<_> = request
                    .headers()
                    .get_all(ACCEPT)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .collect();
                self.metrics(negotiate(Some(&accept.join(",")))).await
            }
            "/status" => self.status().await,
            "/-/healthy" => Said::plain(StatusCode::OK, "healthy"),
            "/-/ready" if self.ready.load(Relaxed) => Said::plain(StatusCode::OK, "ready"),
            "/-/ready" => Said::plain(StatusCode::SERVICE_UNAVAILABLE, "not ready: attaching"),
            _ => Said::ok(HTML, pages::landing(&self.build)),
        }
    }

    async fn metrics(&self, format: Format) -> Said {
        match self.look().await {
            Ok(look) => Said::ok(format.content_type(), exposition::encode(&look.families, format)),
            Err(error) => Said::plain(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }

    async fn status(&self) -> Said {
        let look = self.look().await;
        let ready = self.ready.load(Relaxed);
        match pages::status(&self.build, ready, self.since.elapsed(), &look) {
            Ok(text) => Said::ok(JSON, text),
            Err(error) => Said::plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    async fn look(&self) -> Result<Arc<Scrape>, CollectError> {
        let (reply, look) = oneshot::channel();
        self.looks.send(reply).await.map_err(|_| CollectError::Over)?;
        look.await.map_err(|_| CollectError::Over)?
    }
}
