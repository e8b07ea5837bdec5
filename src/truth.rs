//! The ground truth: what the tables must hold, in one pass over the log. (Interface first.)
