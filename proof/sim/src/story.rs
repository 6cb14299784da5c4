//! A world with a plot: what stories (`tests/stories.rs`) are told with.

use core::time::Duration;

use holdfast_base::Instant;
use holdfast_node::Node;

use crate::apps::{Connection, Exchange, Outcome};
use crate::runner::finish;
use crate::scenario::{Fault, Opening, Scenario};
use crate::world::World;

/// How long `until` waits before it calls the story failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A world that is told what happens next. Every step panics, with the logs of
/// both machines, when a checker has found something.
pub struct Story {
    /// The world.
    pub world: World,
    requests: u64,
}

impl Story {
    /// Switches a world on and waits until the pair is whole.
    pub fn whole(scenario: Scenario) -> Story {
        let mut story = Story::begin(scenario);
        story.until("the pair is whole", World::is_whole);
        story.run_ms(1000);
        story
    }

    /// A story that begins with the machines starting. With `HOLDFAST_SIM_TRACE`
    /// in the environment its log has every frame.
    pub fn begin(scenario: Scenario) -> Story {
        let mut world = World::new(scenario);
        world.traced = std::env::var_os("HOLDFAST_SIM_TRACE").is_some();
        Story { world, requests: 0 }
    }

    /// Lets time pass.
    pub fn run_ms(&mut self, ms: u64) {
        self.world.run_until(self.world.now + Duration::from_millis(ms), |_| false);
        self.judge();
    }

    /// Lets time pass until something is so.
    #[track_caller]
    pub fn until(&mut self, what: &str, is_so: impl Fn(&World) -> bool) {
        let so = self.world.run_until(self.world.now + PATIENCE, |world| is_so(world));
        self.judge();
        assert!(so, "{what}: never\n{}", self.log());
    }

    /// The machine that is primary.
    #[track_caller]
    pub fn primary(&self) -> usize {
        self.world.primary().unwrap_or_else(|| panic!("there is not one primary\n{}", self.log()))
    }

    /// A machine's node.
    pub fn node(&self, machine: usize) -> &Node {
        self.world.machines[machine].node.as_ref().expect("the machine runs")
    }

    /// Something breaks or is mended.
    pub fn fault(&mut self, fault: Fault) {
        self.world.apply(fault);
    }

    /// Everything is mended; waits until the pair is whole.
    pub fn heal(&mut self) {
        self.world.heal();
        self.until("the pair is whole again", World::is_whole);
    }

    /// The first client opens a connection and, if it can, establishes it;
    /// its number.
    pub fn connect(&mut self, vserver: usize, v6: bool) -> usize {
        let number = self.dial(vserver, v6);
        self.until("established", |world| world.clients[0].connections[number].established.is_some());
        number
    }

    /// As [`Story::connect`], a connection that lasts for many seconds.
    pub fn connect_for_long(&mut self, vserver: usize, v6: bool) -> usize {
        let pause = Duration::from_secs(1);
        let number = self.open(Opening { pause, ..Opening::plain(Instant::ZERO, vserver, v6) });
        self.until("established", |world| world.clients[0].connections[number].established.is_some());
        number
    }

    /// The first client begins to open a connection; its number.
    pub fn dial(&mut self, vserver: usize, v6: bool) -> usize {
        self.world.open_one(Opening::plain(Instant::ZERO, vserver, v6))
    }

    /// As [`Story::dial`] with everything said.
    pub fn open(&mut self, opening: Opening) -> usize {
        self.world.open_one(opening)
    }

    /// A connection of the first client.
    pub fn connection(&self, number: usize) -> &Connection {
        &self.world.clients[0].connections[number]
    }

    /// An exchange of the first client.
    pub fn exchange(&self, number: usize) -> &Exchange {
        &self.world.clients[0].exchanges[number]
    }

    /// Waits until a connection has ended, and says how.
    pub fn end_of(&mut self, number: usize) -> Outcome {
        self.until("the connection has ended", |world| world.clients[0].connections[number].ended.is_some());
        self.connection(number).outcome
    }

    /// The operator types a command at a machine; the whole answer.
    pub fn command(&mut self, machine: usize, line: &str) -> String {
        self.requests += 1;
        let request = 1000 + self.requests;
        self.world.command(machine, request, line);
        self.until("the command is answered", |world| {
            world.machines[machine].replies.iter().any(|reply| reply.request == request && reply.last)
        });
        let replies = self.world.machines[machine].replies.iter().filter(|reply| reply.request == request);
        replies.map(|reply| reply.text.as_str()).collect()
    }

    /// Mends everything, lets all connections end and judges the run.
    pub fn end(mut self) {
        self.heal();
        finish(&mut self.world, 1);
        self.judge();
    }

    /// The logs of both machines and what was done, by time.
    pub fn log(&self) -> String {
        let world = &self.world;
        let mut lines: Vec<(Instant, String)> =
            world.checker.story.iter().map(|(at, text)| (*at, format!("*** {text}"))).collect();
        for machine in &world.machines {
            lines.extend(
                machine
                    .log
                    .iter()
                    .map(|(at, level, text)| (*at, format!("machine {} {level:?} {text}", machine.index))),
            );
        }
        lines.sort_by_key(|(at, _)| *at);
        lines.iter().map(|(at, text)| format!("{:>10} {text}\n", at.as_nanos() / 1000)).collect()
    }

    #[track_caller]
    fn judge(&self) {
        let violations = &self.world.checker.violations;
        assert!(violations.is_empty(), "{}\n{}", self.log(), violations.join("\n"));
    }
}
