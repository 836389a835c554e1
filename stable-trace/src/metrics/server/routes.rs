//! Routes requests to pages.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    header::{
        ACCEPT, ALLOW, AUTHORIZATION, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE,
    },
};
use tokio::sync::{oneshot, watch};

use super::{
    collector::{CollectError, Scrape, ScrapeSender},
    connection_deadline::ConnectionDeadline,
    pages,
    response_body::ResponseBody,
};
use crate::metrics::{
    exposition::{self, ExpositionFormat},
    negotiate::negotiate,
    series::Build,
    web_config::WebConfig,
};

const TEXT: &str = "text/plain; charset=utf-8";
const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json";

/// The pages of the endpoint.
pub(super) struct Routes {
    scrapes: ScrapeSender,
    ready: Arc<AtomicBool>,
    build: Build,
    started: Instant,
    web: watch::Receiver<Arc<WebConfig>>,
}

/// Status, content type and body of a response.
struct Page {
    status: StatusCode,
    content_type: &'static str,
    text: String,
}

impl Page {
    fn ok(content_type: &'static str, text: String) -> Self {
        Self { status: StatusCode::OK, content_type, text }
    }

    fn text(status: StatusCode, text: impl Into<String>) -> Self {
        let mut text = text.into();
        text.push('\n');
        Self { status, content_type: TEXT, text }
    }
}

impl Routes {
    pub(super) fn new(
        scrapes: ScrapeSender,
        ready: Arc<AtomicBool>,
        build: Build,
        web: watch::Receiver<Arc<WebConfig>>,
    ) -> Self {
        Self { scrapes, ready, build, started: Instant::now(), web }
    }

    /// The web configuration as it is now.
    pub(super) fn web(&self) -> Arc<WebConfig> {
        Arc::clone(&self.web.borrow())
    }

    pub(super) async fn answer(
        &self,
        request: &Request<Incoming>,
        deadline: &ConnectionDeadline,
    ) -> Response<ResponseBody> {
        let page = if self.is_authorized(request).await {
            self.page(request).await
        } else {
            Page::text(StatusCode::UNAUTHORIZED, "authentication required")
        };
        let head = request.method() == Method::HEAD;
        let not_allowed = page.status == StatusCode::METHOD_NOT_ALLOWED;
        let body = Bytes::from(page.text);
        let mut response = Response::new(ResponseBody::new(body, deadline.clone()));
        *response.status_mut() = page.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(page.content_type));
        for (name, value) in &self.web().headers {
            headers.insert(name, value.clone());
        }
        if page.status == StatusCode::UNAUTHORIZED {
            headers
                .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"stable-trace\""));
        }
        if not_allowed {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        if !request.body().is_end_stream() && !head {
            // The body of a request is never read.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn is_authorized(&self, request: &Request<Incoming>) -> bool {
        match &self.web().passwords {
            None => true,
            Some(passwords) => {
                let authorization = request.headers().get(AUTHORIZATION);
                passwords.verify(authorization.map(HeaderValue::as_bytes)).await
            }
        }
    }

    async fn page(&self, request: &Request<Incoming>) -> Page {
        let path = request.uri().path();
        if !matches!(path, "/" | "/metrics" | "/status" | "/-/healthy" | "/-/ready") {
            return Page::text(StatusCode::NOT_FOUND, "not found; / lists the pages");
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return Page::text(
                StatusCode::METHOD_NOT_ALLOWED,
                "method not allowed; use GET or HEAD",
            );
        }
        match path {
            "/metrics" => {
                // Several headers of one name are equivalent to one with a comma-separated list.
                let accept: Vec<_> = request
                    .headers()
                    .get_all(ACCEPT)
                    .iter()
                    .filter_map(|value| value.to_str().ok())
                    .collect();
                self.metrics(negotiate(Some(&accept.join(",")))).await
            }
            "/status" => self.status().await,
            "/-/healthy" => Page::text(StatusCode::OK, "healthy"),
            "/-/ready" if self.ready.load(Relaxed) => Page::text(StatusCode::OK, "ready"),
            "/-/ready" => Page::text(StatusCode::SERVICE_UNAVAILABLE, "not ready: attaching"),
            _ => Page::ok(HTML, pages::landing(&self.build)),
        }
    }

    async fn metrics(&self, format: ExpositionFormat) -> Page {
        match self.scrape().await {
            Ok(scrape) => {
                Page::ok(format.content_type(), exposition::encode(&scrape.families, format))
            }
            Err(error) => Page::text(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        }
    }

    async fn status(&self) -> Page {
        let scrape = self.scrape().await;
        let ready = self.ready.load(Relaxed);
        match pages::status(&self.build, ready, self.started.elapsed(), &scrape) {
            Ok(text) => Page::ok(JSON, text),
            Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    async fn scrape(&self) -> Result<Arc<Scrape>, CollectError> {
        let (request, scrape) = oneshot::channel();
        self.scrapes.send(request).await.map_err(|_| CollectError::NoRun)?;
        scrape.await.map_err(|_| CollectError::NoRun)?
    }
}
