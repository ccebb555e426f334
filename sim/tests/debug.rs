use weirkeeper_sim::seeds::{Source, run_one};
#[test]
#[ignore]
fn debug_one() {
    let seed: u64 = std::env::var("SEED").unwrap().parse().unwrap();
    let plan = Source::Http2.plan(seed).unwrap();
    for (m, p) in &plan.clients { println!("client {p} {m:?}"); }
    println!("{:#?}", plan.speech);
    for b in &plan.backends { println!("{:?} {:?} max {:?} {:?}", b.name, b.manner, b.max_in_flight, b.model); }
    for u in &plan.config.upstreams { println!("{:?} {:?} {:?} {:?}", u.protocol, u.max_tunnels, u.timeouts, u.retry); }
    println!("{:?}", plan.config.listeners[0].http2);
    println!("{:?}", plan.faults);
    if std::env::var("LOG").is_ok() {
        tracing_subscriber::fmt().with_env_filter(std::env::var("LOG").unwrap()).init();
    }
    let (run, violations) = run_one(&plan);
    let run = run.unwrap();
    for v in &violations { println!("VIOLATION {v:?}"); }
    if let Ok(id) = std::env::var("ID") {
        let id: u64 = id.parse().unwrap();
        println!("{:?}", run.book.requests[id as usize]);
        for e in run.book.executions.iter().filter(|e| e.request == id) { println!("{e:?}"); }
        println!("{:?}", run.book.wires.tunnels.get(&id));
        println!("{:?}", run.book.wires.heads.iter().find(|h| h.request == id));
        let r = &run.book.requests[id as usize];
        println!("{:?}", plan.clients.get(r.group).map(|c| &c.0.requests[r.kind]));
        println!("flows {:?}", run.book.wires.flows.range((id, weirkeeper_sim::wires::Way::Up)..=(id, weirkeeper_sim::wires::Way::Down)).collect::<Vec<_>>());
        let from = r.offered; let to = r.end.map(|e| e.0).unwrap_or(from);
        for (u, at, e) in run.book.engine.iter().filter(|(_, at, _)| *at >= from && *at <= to) { println!("{u} {at} {e:?}"); }
    }
    println!("{:?}", run.book.reasons);
}
