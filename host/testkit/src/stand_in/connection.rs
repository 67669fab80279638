//! One client from its PRELOGIN to its end: requests in, responses out.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::datum::Datum;
use super::engine::binder::Variables;
use super::error::SqlError;
use super::fault::Fault;
use super::listener::Shared;
use super::observe::LoginFacts;
use super::session::{Argument, Session, Stop, Struck};
use super::wire::bulk_load::{self, BulkLoad};
use super::wire::packet::{self, Channel, Message, Plan};
use super::wire::request::{self, Procedure, TransactionRequest};
use super::wire::response::{Response, command};
use super::wire::transport::Transport;
use super::wire::{login, prelogin};

/// Serves a client until it leaves; errors of the connection end it in silence, as a server does.
pub fn serve(shared: &Arc<Shared>, socket: TcpStream, id: u64) {
    let _ = socket.set_nodelay(true);
    let mut channel = Channel::new(Transport::Plain(socket), Arc::clone(&shared.closing));
    let served = enter(shared, &mut channel, id).and_then(|session| match session {
        Some(session) => requests(shared, &mut channel, session),
        None => Ok(()),
    });
    if served.is_ok() {
        channel.transport.close();
    }
}

/// PRELOGIN, TLS and login.
fn enter(shared: &Arc<Shared>, channel: &mut Channel, id: u64) -> io::Result<Option<Session>> {
    let Some(first) = channel.read()? else {
        return Ok(None);
    };
    let asked = prelogin::parse(&first.body).filter(|_| first.kind == packet::PRELOGIN);
    let asked = asked.ok_or_else(|| io::Error::other("no PRELOGIN"))?;
    let (said, handshake) = prelogin::agree(asked.encryption, shared.encryption);
    channel.begin(Plan::default(), false);
    channel.put(&prelogin::answer(said))?;
    channel.end()?;
    if said == prelogin::ENCRYPT_REQ && !handshake {
        // The client cannot do what the server wants.
        return Ok(None);
    }
    if handshake && let Some(config) = &shared.tls {
        let socket = channel.transport.socket().try_clone()?;
        let plain = std::mem::replace(&mut channel.transport, Transport::Plain(socket));
        channel.transport = plain.with_tls(config)?;
    }
    let login_encrypted = channel.transport.is_encrypted();
    let Some(message) = channel.read()? else {
        return Ok(None);
    };
    if said == prelogin::ENCRYPT_OFF && login_encrypted {
        let socket = channel.transport.socket().try_clone()?;
        let tls = std::mem::replace(&mut channel.transport, Transport::Plain(socket));
        channel.transport = tls.without_tls();
    }
    let login = login::parse(&message.body).filter(|_| message.kind == packet::LOGIN);
    let login = login.ok_or_else(|| io::Error::other("no LOGIN7"))?;
    answer_login(shared, channel, &login, login_encrypted, id)
}

fn answer_login(
    shared: &Arc<Shared>,
    channel: &mut Channel,
    login: &login::Login,
    login_encrypted: bool,
    id: u64,
) -> io::Result<Option<Session>> {
    let packet_size = match login.packet_size as usize {
        0 => 4096,
        size => size.clamp(512, shared.options.largest_packet.clamp(512, 32_767)),
    };
    let mut facts = LoginFacts {
        user: login.user.clone(),
        database: login.database.clone(),
        app_name: login.app_name.clone(),
        host_name: login.host_name.clone(),
        server_name: login.server_name.clone(),
        read_only_intent: login.read_only_intent,
        login_encrypted,
        encrypted: channel.transport.is_encrypted(),
        packet_size,
        accepted: false,
    };
    let mut refused = None;
    for fault in shared.faults.strike_login() {
        match fault {
            Fault::DropAtLogin => {
                shared.observed.login(facts);
                return Ok(None);
            }
            Fault::LoginError(error) => refused = Some(vec![SqlError::from(error)]),
            _ => {}
        }
    }
    let wanted = if login.database.is_empty() {
        "master"
    } else {
        &login.database
    };
    let database = shared.engine.database(wanted);
    let failed = || SqlError::new(18_456, format!("Login failed for user '{}'.", login.user));
    if refused.is_none() {
        if login.integrated
            || !login.user.eq_ignore_ascii_case(&shared.options.user)
            || login.password != shared.password
        {
            refused = Some(vec![failed()]);
        } else if database.is_err() {
            let text = format!(
                "Cannot open database \"{wanted}\" requested by the login. The login failed."
            );
            refused = Some(vec![SqlError::new(4060, text), failed()]);
        }
    }
    channel.begin(Plan::default(), false);
    let mut response = Response::new(channel, &shared.options.server_name);
    let (Ok(database), None) = (database, &refused) else {
        for error in refused.iter().flatten() {
            response.error(error)?;
        }
        response.statement_done(command::OTHER, None, true)?;
        // Whoever is told that he is out finds himself in the record.
        shared.observed.login(facts);
        response.end()?;
        return Ok(None);
    };
    let collation = database.collation.wire;
    response.environment(1, &database.name, "master")?;
    response.info(
        5701,
        &format!("Changed database context to '{}'.", database.name),
    )?;
    response.environment_bytes(7, &collation, &[])?;
    response.environment(2, "us_english", "")?;
    response.info(5703, "Changed language setting to us_english.")?;
    response.login_ack()?;
    response.features(&login.features)?;
    response.environment(4, &packet_size.to_string(), "4096")?;
    facts.accepted = true;
    // Whoever is told that he is in finds himself in the record.
    shared.observed.login(facts);
    response.end()?;
    channel.packet_size = packet_size;
    let mut session = Session::new(&shared.engine, database, 50 + (id % 32_000) as i64);
    session.user.clone_from(&login.user);
    session.app_name.clone_from(&login.app_name);
    session.host_name.clone_from(&login.host_name);
    Ok(Some(session))
}

fn requests(shared: &Arc<Shared>, channel: &mut Channel, mut session: Session) -> io::Result<()> {
    let home = Arc::clone(&session.database);
    let mut no_count = false;
    while let Some(message) = channel.read()? {
        if shared.closing.load(Ordering::SeqCst) {
            return Ok(());
        }
        if message.kind == packet::ATTENTION {
            // It came too late to stop anything, and is answered all the same.
            shared.observed.attention();
            channel.begin(Plan::default(), false);
            Response::new(channel, &shared.options.server_name).end_by_attention()?;
            continue;
        }
        if message.reset {
            session.reset(Arc::clone(&home));
            no_count = false;
        }
        answer(shared, channel, &mut session, &message, &mut no_count)?;
    }
    Ok(())
}

fn answer(
    shared: &Arc<Shared>,
    channel: &mut Channel,
    session: &mut Session,
    message: &Message,
    no_count: &mut bool,
) -> io::Result<()> {
    let work = Work::of(message);
    if let Some(text) = work.as_ref().and_then(Work::text)
        && shared.options.keep_statements
    {
        shared.observed.statement(&text);
    }
    let faults = match work.as_ref().and_then(Work::text) {
        Some(text) => shared.faults.strike(&text),
        None => Vec::new(),
    };
    let (mut plan, mut struck, mut block) = (Plan::default(), Struck::default(), None);
    for fault in &faults {
        match fault {
            Fault::Cut { after_bytes } => plan.cut = Some(*after_bytes),
            Fault::Reset { after_bytes } => plan.reset = Some(*after_bytes),
            Fault::Stall { after_bytes, until } => plan.stall = Some((*after_bytes, until.clone())),
            Fault::Block { until } => block = Some(until.clone()),
            other => struck.add(other),
        }
    }
    channel.begin(plan, true);
    if let Some(until) = block {
        channel.wait(&until, true)?;
    }
    let mut response = Response::new(channel, &shared.options.server_name);
    response.unknown_lengths = shared.options.unknown_lengths;
    response.no_count = *no_count;
    if message.reset {
        response.environment_bytes(18, &[], &[])?;
    }
    let result = if response.channel.attention {
        Err(Stop::Cancelled)
    } else {
        run(session, work, &mut response, &mut struck)
    };
    *no_count = response.no_count;
    match result {
        Ok(()) if response.channel.attention => {
            shared.observed.attention();
            response.end_by_attention()
        }
        Ok(()) if struck.end_without_done => response.end_without_done(),
        Ok(()) => response.end(),
        Err(Stop::Cancelled) => {
            shared.observed.attention();
            response.end_by_attention()
        }
        Err(Stop::Ended) => response.end_without_done(),
        Err(Stop::Error(error)) => {
            response.error(&error)?;
            response.statement_done(command::OTHER, None, true)?;
            response.end()
        }
        Err(Stop::Broken(error)) => {
            // What was said before a fatal error still arrives.
            let _ = response.end();
            Err(error)
        }
    }
}

/// What a client asks for.
enum Work {
    Batch(String),
    Calls(Vec<request::Call>),
    Transaction(TransactionRequest),
    Bulk(BulkLoad),
}

impl Work {
    fn of(message: &Message) -> Option<Self> {
        match message.kind {
            packet::BATCH => request::batch(&message.body).map(Self::Batch),
            packet::RPC => request::calls(&message.body).map(Self::Calls),
            packet::TRANSACTION => request::transaction(&message.body).map(Self::Transaction),
            packet::BULK => bulk_load::parse(&message.body).map(Self::Bulk),
            _ => None,
        }
    }

    /// The statement, for the record and for faults.
    fn text(&self) -> Option<String> {
        match self {
            Self::Batch(text) => Some(text.clone()),
            Self::Calls(calls) => {
                let texts =
                    calls
                        .iter()
                        .flat_map(|call| &call.parameters)
                        .filter_map(|it| match &it.value {
                            Datum::Text(text) => Some(text.as_str()),
                            _ => None,
                        });
                // Of the texts the first one is the statement.
                let named = calls.iter().find_map(|call| match &call.procedure {
                    Procedure::Named(name) if !name.eq_ignore_ascii_case("sp_executesql") => {
                        Some(name.as_str())
                    }
                    _ => None,
                });
                let statement = texts.into_iter().next().unwrap_or_default();
                Some(named.map_or_else(
                    || statement.to_owned(),
                    |name| format!("{name} {statement}"),
                ))
            }
            Self::Transaction(_) | Self::Bulk(_) => None,
        }
    }
}

fn run(
    session: &mut Session,
    work: Option<Work>,
    response: &mut Response<'_>,
    struck: &mut Struck,
) -> Result<(), Stop> {
    match work {
        None => Err(SqlError::new(4002, "The incoming tabular data stream (TDS) protocol stream is incorrect. The stream ended unexpectedly. (or the stand-in does not know it)").into()),
        Some(Work::Batch(text)) => session.batch(&text, &mut Variables::new(), response, struck).map(drop),
        Some(Work::Bulk(load)) => session.bulk_load(&load, response),
        Some(Work::Transaction(what)) => {
            match what {
                TransactionRequest::Begin => session.begin(response)?,
                TransactionRequest::Commit { begin_again } => {
                    session.commit(response)?;
                    if begin_again {
                        session.begin(response)?;
                    }
                }
                TransactionRequest::Rollback { begin_again } => {
                    session.rollback(response)?;
                    if begin_again {
                        session.begin(response)?;
                    }
                }
            }
            response.statement_done(command::OTHER, None, false)?;
            Ok(())
        }
        Some(Work::Calls(calls)) => {
            for call in calls {
                let name = match &call.procedure {
                    Procedure::Named(name) => name.rsplit('.').next().unwrap_or_default().trim_matches(['[', ']']).to_owned(),
                    Procedure::Numbered(10) => "sp_executesql".to_owned(),
                    Procedure::Numbered(11) => "sp_prepare".to_owned(),
                    Procedure::Numbered(12) => "sp_execute".to_owned(),
                    Procedure::Numbered(13) => "sp_prepexec".to_owned(),
                    Procedure::Numbered(15) => "sp_unprepare".to_owned(),
                    Procedure::Numbered(number) => format!("procedure {number}"),
                };
                let arguments = call.parameters.into_iter().map(|it| Argument {
                    name: Some(it.name).filter(|it| !it.is_empty()),
                    ty: it.ty,
                    value: it.value,
                    output: it.output,
                });
                session.procedure(&name, arguments.collect(), response, struck)?;
            }
            Ok(())
        }
    }
}
