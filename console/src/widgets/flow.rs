//! The order and place of stages in a drawing of the flow: who feeds whom, as a forest. What a daemon says may be wrong:
//! circles, unknown and doubled names end in a drawing all the same, and every stage stands in it once.

use std::collections::HashMap;

/// One box of the drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// The stage, as an index of those given; `None` = a stream that no stage writes.
    pub(crate) stage: Option<usize>,
    /// The box before it.
    pub(crate) parent: Option<usize>,
    /// Boxes behind it, in order.
    pub(crate) children: Vec<usize>,
    /// Boxes before it up to its stream, which has 0.
    pub(crate) depth: usize,
    /// Lane: a first child is on its parent's, every other one begins a new one.
    pub(crate) lane: usize,
    /// Branches above it where it is one of several.
    pub(crate) branches: usize,
    /// Whether it was said to read from a stage that reads from it.
    pub(crate) is_circular: bool,
}

/// The drawing's boxes, each behind its parent; streams are drawn before what reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// In the order of the drawing.
    pub(crate) nodes: Vec<Node>,
    /// Lanes in all.
    pub(crate) n_lanes: usize,
    /// Boxes side by side at most.
    pub(crate) n_levels: usize,
}

impl Flow {
    /// From name and origin of each stage.
    pub(crate) fn new(stages: &[(&str, &str)]) -> Self {
        let mut by_name = HashMap::new();
        for (n, (name, _)) in stages.iter().enumerate() {
            by_name.entry(*name).or_insert(n);
        }
        let mut readers: Vec<Vec<usize>> = vec![Vec::new(); stages.len()];
        // Streams that no stage writes, in the order in which they are named first.
        let mut streams: Vec<(&str, Vec<usize>)> = Vec::new();
        let mut stream_at: HashMap<&str, usize> = HashMap::new();
        for (n, (_, from)) in stages.iter().enumerate() {
            match by_name.get(from) {
                Some(parent) if *parent != n => readers[*parent].push(n),
                _ => {
                    let at = *stream_at.entry(from).or_insert_with(|| {
                        streams.push((from, Vec::new()));
                        streams.len() - 1
                    });
                    streams[at].1.push(n);
                }
            }
        }
        let mut flow = Self::default();
        let mut is_drawn = vec![false; stages.len()];
        for (_, roots) in &streams {
            flow.draw_stream(roots, &readers, &mut is_drawn, false);
        }
        // What is left reads, in the end, from itself.
        for n in 0..stages.len() {
            if !is_drawn[n] {
                flow.draw_stream(&[n], &readers, &mut is_drawn, true);
            }
        }
        flow.n_levels = flow
            .nodes
            .iter()
            .map(|node| node.depth + 1)
            .max()
            .unwrap_or(0);
        flow
    }

    /// Stages in the order of the drawing.
    pub(crate) fn stages(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().filter_map(|node| node.stage)
    }

    fn draw_stream(
        &mut self,
        roots: &[usize],
        readers: &[Vec<usize>],
        is_drawn: &mut [bool],
        is_circular: bool,
    ) {
        let stream = self.push(None, None, is_circular);
        // A stack and no recursion: a chain may be as long as a Snapshot.
        let mut open: Vec<(usize, usize)> = roots.iter().rev().map(|n| (stream, *n)).collect();
        while let Some((parent, n)) = open.pop() {
            if std::mem::replace(&mut is_drawn[n], true) {
                continue;
            }
            let node = self.push(Some(parent), Some(n), is_circular && parent == stream);
            open.extend(readers[n].iter().rev().map(|reader| (node, *reader)));
        }
        self.branch(stream);
    }

    fn push(&mut self, parent: Option<usize>, stage: Option<usize>, is_circular: bool) -> usize {
        let at = self.nodes.len();
        let mut node = Node {
            stage,
            parent,
            children: Vec::new(),
            depth: 0,
            lane: 0,
            branches: 0,
            is_circular,
        };
        let mut is_new_lane = true;
        if let Some(parent) = parent.and_then(|parent| self.nodes.get_mut(parent)) {
            node.depth = parent.depth + 1;
            node.lane = parent.lane;
            is_new_lane = !parent.children.is_empty();
            parent.children.push(at);
        }
        if is_new_lane {
            node.lane = self.n_lanes;
            self.n_lanes += 1;
        }
        self.nodes.push(node);
        at
    }

    /// Counts the branches, once it is known who has siblings.
    fn branch(&mut self, from: usize) {
        for at in from + 1..self.nodes.len() {
            let Some(parent) = self.nodes[at].parent else {
                continue;
            };
            let siblings = self.nodes[parent].children.len();
            self.nodes[at].branches = self.nodes[parent].branches + usize::from(siblings > 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each stage as `name depth lane`, streams as `* 0 lane`.
    fn drawn(stages: &[(&str, &str)]) -> Vec<String> {
        let flow = Flow::new(stages);
        flow.nodes
            .iter()
            .map(|node| {
                let name = node.stage.map_or("*", |n| stages[n].0);
                let mark = if node.is_circular { "!" } else { "" };
                format!("{name}{mark} {} {}", node.depth, node.lane)
            })
            .collect()
    }

    #[test]
    fn a_chain_is_one_lane_and_each_branch_begins_a_new_one() {
        let chain = [("a", "source"), ("b", "a"), ("c", "b")];
        assert_eq!(drawn(&chain), ["* 0 0", "a 1 0", "b 2 0", "c 3 0"]);
        let fan = [
            ("a", "source"),
            ("b", "a"),
            ("c", "a"),
            ("d", "b"),
            ("e", "source"),
        ];
        assert_eq!(
            drawn(&fan),
            ["* 0 0", "a 1 0", "b 2 0", "d 3 0", "c 2 1", "e 1 2"]
        );
        assert_eq!(Flow::new(&fan).n_lanes, 3);
        assert_eq!(Flow::new(&fan).n_levels, 4);
        assert!(drawn(&[]).is_empty());
    }

    #[test]
    fn branches_count_only_where_there_are_several() {
        let fan = [("a", "s"), ("b", "a"), ("c", "a"), ("d", "c")];
        let flow = Flow::new(&fan);
        let branches: Vec<usize> = flow.nodes.iter().map(|node| node.branches).collect();
        // Stream, a, b, c, d.
        assert_eq!(branches, [0, 0, 1, 1, 1]);
    }

    #[test]
    fn stages_of_another_stream_begin_a_drawing_of_their_own() {
        let two = [("a", "events"), ("b", "orders"), ("c", "events")];
        assert_eq!(drawn(&two), ["* 0 0", "a 1 0", "c 1 1", "* 0 2", "b 1 2"]);
    }

    #[test]
    fn circles_and_doubled_names_end_and_leave_nobody_out() {
        let table: [&[(&str, &str)]; 6] = [
            &[("a", "a")],
            &[("a", "b"), ("b", "a")],
            &[("a", "b"), ("b", "c"), ("c", "a"), ("d", "c")],
            &[("a", "source"), ("a", "a"), ("a", "a")],
            &[("", ""), ("", ""), ("x", "")],
            &[("s", "source"), ("b", "c"), ("c", "b"), ("d", "s")],
        ];
        for stages in table {
            let flow = Flow::new(stages);
            let mut seen: Vec<usize> = flow.stages().collect();
            seen.sort_unstable();
            let all: Vec<usize> = (0..stages.len()).collect();
            assert_eq!(seen, all, "{stages:?}");
            for (at, node) in flow.nodes.iter().enumerate() {
                assert!(node.parent.is_none_or(|parent| parent < at), "{stages:?}");
                assert!(node.lane < flow.n_lanes && node.depth < flow.n_levels);
            }
        }
        assert_eq!(
            drawn(&[("a", "b"), ("b", "a")]),
            ["*! 0 0", "a! 1 0", "b 2 0"]
        );
    }

    #[test]
    fn a_chain_as_long_as_a_snapshot_needs_no_deep_stack() {
        let names: Vec<String> = (0..20_000).map(|n| n.to_string()).collect();
        let stages: Vec<(&str, &str)> = (0..names.len())
            .map(|n| (&*names[n], if n == 0 { "source" } else { &*names[n - 1] }))
            .collect();
        assert_eq!(Flow::new(&stages).n_levels, 20_001);
    }
}
