//! Pictures of dashboards, drawn from real data where there is no Grafana.
