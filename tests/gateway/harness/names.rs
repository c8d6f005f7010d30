//! A DNS server that knows what a test tells it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// What is known of a name, and how questions are answered. Answers may not be kept: their TTL is 0.
#[derive(Default)]
struct Zone {
    records: HashMap<String, Vec<RData>>,
    mood: Mood,
    questions: usize,
}

/// How a DNS server feels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// It answers; of names that it does not know it says so.
    #[default]
    Well,
    /// It says that it failed.
    Failing,
    /// It says nothing.
    Silent,
}

/// A DNS server on loopback, until dropped.
pub struct Names {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    serving: JoinHandle<()>,
}

impl Names {
    pub async fn serve() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let zone = Arc::<Mutex<Zone>>::default();
        let asked = Arc::clone(&zone);
        let serving = tokio::spawn(async move {
            let mut question = [0; 4096];
            while let Ok((length, from)) = socket.recv_from(&mut question).await {
                let answer = asked.lock().unwrap().answer(&question[..length]);
                if let Some(answer) = answer {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self { address, zone, serving }
    }

    /// The `[resolver]` table that asks it.
    pub fn toml(&self) -> String {
        format!("[resolver]\nnameservers = [\"{}\"]\ntimeout = \"300ms\"\n", self.address)
    }

    /// From now on `name` has these addresses.
    pub fn addresses<const N: usize>(&self, name: &str, addresses: [[u8; 4]; N]) {
        let records = addresses.map(|address| RData::A(A(Ipv4Addr::from(address))));
        self.zone.lock().unwrap().records.insert(name.to_owned(), records.into());
    }

    /// From now on `name` has these services: priority, weight, port, target.
    pub fn services<const N: usize>(&self, name: &str, services: [(u16, u16, u16, &str); N]) {
        let records = services.map(|(priority, weight, port, target)| {
            RData::SRV(SRV::new(priority, weight, port, Name::from_ascii(format!("{target}.")).unwrap()))
        });
        self.zone.lock().unwrap().records.insert(name.to_owned(), records.into());
    }

    pub fn feels(&self, mood: Mood) {
        self.zone.lock().unwrap().mood = mood;
    }

    /// How many questions it has heard.
    pub fn questions(&self) -> usize {
        self.zone.lock().unwrap().questions
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Zone {
    fn answer(&mut self, question: &[u8]) -> Option<Vec<u8>> {
        self.questions += 1;
        let asked = Message::from_vec(question).unwrap();
        let query = asked.queries[0].clone();
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.add_query(query.clone());
        let known = self.records.get(query.name().to_ascii().trim_end_matches('.'));
        answer.metadata.response_code = match (self.mood, known) {
            (Mood::Silent, _) => return None,
            (Mood::Failing, _) => ResponseCode::ServFail,
            (Mood::Well, None) => ResponseCode::NXDomain,
            (Mood::Well, Some(records)) => {
                let fits = |data: &&RData| match data {
                    RData::A(_) => query.query_type() == RecordType::A,
                    _ => query.query_type() == RecordType::SRV,
                };
                for data in records.iter().filter(fits) {
                    answer.add_answer(Record::from_rdata(query.name().clone(), 0, data.clone()));
                }
                ResponseCode::NoError
            }
        };
        Some(answer.to_vec().unwrap())
    }
}
