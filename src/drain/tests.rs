//! A drain, its parts, and its rounds.

use futures_util::FutureExt;
use tokio::time::Instant;

use super::*;

fn terms(seconds: u64) -> Terms {
    let window = Duration::from_secs(seconds);
    Terms { window, grace: Duration::from_secs(10), will: Will::Fire }
}

#[tokio::test(start_paused = true)]
async fn all_are_asked_within_the_window_and_none_long_before_its_turn() {
    let drain = Drain::new();
    let asking = drain.clone();
    let began = Instant::now();
    let work: Vec<_> = (0..100)
        .map(|_| {
            let watch = drain.watch();
            tokio::spawn(async move {
                watch.asked().await;
                began.elapsed()
            })
        })
        .collect();
    let asked = tokio::spawn(async move { asking.carry_out(&asking.begin(terms(10))).await });
    drain.ended().await;
    asked.await.unwrap();
    for (turn, work) in work.into_iter().enumerate() {
        let (turn, at) = (turn as f64 / 10.0, work.await.unwrap().as_secs_f64());
        assert!((at - turn).abs() < 0.15, "the one due at {turn} was asked at {at}");
    }
    // Who comes now is asked at once.
    drain.watch().asked().await;
}

#[tokio::test(start_paused = true)]
async fn a_delay_counts_for_the_deadline() {
    let drain = Drain::new();
    let (now, delay) = (Instant::now(), Duration::from_secs(30));
    let round = drain.begin_after(delay, terms(5));
    assert_eq!(round.begins(), now + delay);
    let progress = drain.progress().unwrap();
    assert_eq!((progress.since, progress.deadline), (now, now + delay + Duration::from_secs(5 + 10)));
}

#[tokio::test]
async fn a_cut_reaches_who_was_not_asked_and_who_comes_later() {
    let drain = Drain::new();
    let watch = drain.watch();
    let work = tokio::spawn(async move { watch.cut().await });
    tokio::task::yield_now().await;
    assert_eq!(drain.work(), 1);
    drain.cut().await;
    work.await.unwrap();
    drain.ended().await;
    drain.watch().cut().await;
    assert!(drain.is_asked());
}

#[tokio::test]
async fn a_part_is_asked_by_itself_and_with_the_whole() {
    let whole = Drain::new();
    let (first, second) = (whole.part(), whole.part());
    let watches = [first.watch(), second.watch()];
    first.ask().await;
    watches[0].asked().await;
    assert!(!second.is_asked() && !whole.is_asked());
    whole.ask().await;
    watches[1].asked().await;
    assert_eq!((whole.work(), first.work()), (2, 1));
    drop(watches);
    whole.ended().await;
}

#[tokio::test(start_paused = true)]
async fn who_was_not_asked_when_it_is_cancelled_stays() {
    let drain = Drain::new();
    let watches: Vec<_> = (0..100).map(|_| drain.watch()).collect();
    let round = drain.begin(terms(10));
    let (asking, asked) = (drain.clone(), Arc::clone(&round));
    let carried = tokio::spawn(async move { asking.carry_out(&asked).await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let progress = drain.progress().unwrap();
    assert!(
        progress.asked.abs_diff(51) <= 1 && progress.total == 100 && progress.left == 100,
        "{progress:?}"
    );
    drain.cancel();
    carried.await.unwrap();
    assert_eq!(watches.iter().filter(|watch| watch.member().is_at_work()).count(), round.unasked());
    assert!(drain.progress().is_none() && !drain.is_asked());
    assert!(drain.watch().member().is_at_work(), "who comes then stays");
}

#[tokio::test(start_paused = true)]
async fn who_comes_while_goodbyes_are_said_is_asked_in_the_same_rhythm() {
    let drain = Drain::new();
    let early: Vec<_> = (0..10).map(|_| drain.watch()).collect();
    let asking = drain.clone();
    let said = tokio::spawn(async move { asking.say(&asking.begin(terms(10))).await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    let late: Vec<_> = (0..5).map(|_| drain.watch()).collect();
    assert!(late.iter().all(|watch| watch.member().is_at_work()));
    tokio::time::sleep(Duration::from_millis(4500)).await;
    assert!(early.iter().all(|watch| !watch.member().is_at_work()));
    let began = Instant::now();
    said.await.unwrap();
    assert!(late.iter().all(|watch| !watch.member().is_at_work()));
    assert!(began.elapsed() > Duration::from_millis(3500), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_left_after_the_grace_is_cut_and_who_comes_then_is_asked() {
    let drain = Drain::new();
    let watch = drain.watch();
    let round = drain.begin(Terms { will: Will::Suppress, ..terms(1) });
    assert!(!drain.carry_out(&round).await);
    watch.cut().await;
    assert_eq!(drain.watch().asked().await, Asked::Drain(Will::Suppress));
}

#[tokio::test(start_paused = true)]
async fn who_is_told_in_haste_is_told_by_and_by() {
    let drain = Drain::of(4);
    let watches: Vec<_> = (0..1000).map(|_| drain.watch()).collect();
    let at_work = || watches.iter().filter(|watch| watch.member().is_at_work()).count();
    let round = drain.begin(Terms { window: Duration::ZERO, ..terms(0) });
    let (asking, asked) = (drain.clone(), Arc::clone(&round));
    let carried = tokio::spawn(async move { asking.carry_out(&asked).await });
    tokio::time::sleep(Duration::from_millis(25)).await;
    assert!(at_work().abs_diff(1000 - 20 * 25) <= 20, "{} are at work", at_work());
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert_eq!(at_work(), 0);
    // Nobody leaves: the cut is as gentle.
    let mut cut: Vec<_> = watches.iter().map(|watch| Box::pin(watch.cut())).collect();
    let mut are_cut = || cut.iter_mut().filter_map(|it| it.as_mut().now_or_never()).count();
    tokio::time::sleep_until(round.deadline() + Duration::from_millis(25)).await;
    let first = are_cut();
    assert!(first.abs_diff(20 * 25) <= 20, "{first} are cut");
    drain.cancel();
    assert!(!carried.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_a_grace_that_was_too_short_does_not_stay() {
    let drain = Drain::new();
    let watches: Vec<_> = (0..1000).map(|_| drain.watch()).collect();
    let round =
        drain.begin(Terms { window: Duration::ZERO, grace: Duration::from_millis(50), will: Will::Fire });
    let (asking, asked) = (drain.clone(), Arc::clone(&round));
    let carried = tokio::spawn(async move { asking.carry_out(&asked).await });
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(round.unasked() > 0);
    drain.watch().asked().await;
    assert!(!carried.await.unwrap());
    for watch in watches {
        watch.cut().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_round_is_under_way_until_all_are_asked() {
    let drain = Drain::new();
    let watches: Vec<_> = (0..1000).map(|_| drain.watch()).collect();
    let round =
        Round::new(Terms { window: Duration::ZERO, grace: Duration::from_millis(50), will: Will::Fire });
    let (asking, asked) = (drain.clone(), Arc::clone(&round));
    let members = watches.iter().map(|watch| Arc::clone(watch.member())).collect();
    let said = tokio::spawn(async move { asking.say_to(members, &asked).await });
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(round.is_under_way(Instant::now()));
    said.await.unwrap();
    assert!(!round.is_under_way(Instant::now()));
}

#[test]
fn work_knows_its_age() {
    let whole = Drain::new();
    let part = whole.part();
    let (first, second) = (part.watch(), whole.new_age());
    let late = part.watch();
    assert!(first.member().is_older(second) && !late.member().is_older(second));
    assert!(late.member().is_older(whole.new_age()));
}

#[tokio::test]
async fn all_are_found_however_many() {
    let drain = Drain::new();
    let watches: Vec<_> = (0..5000).map(|key| drain.watch_by(key)).collect();
    assert_eq!(drain.find(|_| true).await.len(), watches.len());
    assert_eq!(drain.find(|member| member.key() % 2 == 0).await.len(), watches.len() / 2);
}
