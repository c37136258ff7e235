"""What can be wrong in the figures: python3 -m unittest bench/suite/tests.py"""

import os
import subprocess
import unittest

from bench.suite import processes, report


def sample(rate, cost=1.0, **more):
    return {"rate": rate, "cost": cost, **more}


class Bound(unittest.TestCase):
    def test_bound_of_equal_differences_is_that_difference(self):
        self.assertEqual(report.bound([0.25] * 21), 0.25)

    def test_bound_is_above_the_mean_and_nearer_to_it_with_more_rounds(self):
        few, many = report.bound([-1.0, 1.0] * 5), report.bound([-1.0, 1.0] * 500)
        self.assertTrue(0 < many < few < 1)


class Summary(unittest.TestCase):
    def test_ratio_is_that_of_the_same_round(self):
        summary = report.summary({"direct": [sample(10), sample(100), sample(20)],
                                  "pesto": [sample(5), sample(90), sample(4)]})
        self.assertEqual(summary["pesto"]["ratio"], {"median": 0.5, "min": 0.2, "max": 0.9})
        self.assertEqual(summary["pesto"]["rate"], {"median": 5, "min": 4, "max": 90})
        self.assertEqual(summary["direct"]["ratio"], {"median": 1, "min": 1, "max": 1})

    def test_round_without_one_of_the_two_has_no_ratio(self):
        summary = report.summary({"direct": [sample(10), None, sample(10)],
                                  "pesto": [None, sample(9), sample(5)]})
        self.assertEqual(summary["pesto"]["ratio"], {"median": 0.5, "min": 0.5, "max": 0.5})
        self.assertEqual(summary["pesto"]["rounds"], 2)

    def test_rounds_may_end_early(self):
        summary = report.summary({"direct": [sample(10), sample(10)], "pesto": [sample(5)]})
        self.assertEqual(summary["pesto"]["ratio"]["max"], 0.5)

    def test_without_direct_there_is_no_ratio(self):
        self.assertIsNone(report.summary({"pesto": [sample(5)]})["pesto"]["ratio"])

    def test_peer_without_a_sample_is_absent(self):
        self.assertEqual(list(report.summary({"direct": [sample(1)], "pesto": [None, None]})), ["direct"])

    def test_failures_of_all_rounds_are_added_up(self):
        summary = report.summary({"pesto": [sample(1, failures=2), None, sample(1, failures=3)]})
        self.assertEqual(summary["pesto"]["failures"], 5)


class Tables(unittest.TestCase):
    def test_numbers_have_three_digits_that_count(self):
        for value, text in ((12345.6, "12,346"), (999.6, "1,000"), (123.4, "123"), (12.34, "12.3"),
                            (9.999, "10.0"), (1.234, "1.23"), (0.08142, "0.0814"), (0, "0.00")):
            self.assertEqual(report.number(value), text)

    def test_columns_are_aligned(self):
        lines = report.table(["", "a"], [["xyz", "1"], ["x", "23"]]).splitlines()
        self.assertEqual(lines, ["|     | a  |", "| --- | -- |", "| xyz | 1  |", "| x   | 23 |"])


class Processes(unittest.TestCase):
    def test_descendants_are_found_but_for_those_of_a_name(self):
        # The child says so once it is a program of its own: until then it has the shell's name.
        shell = subprocess.Popen(["sh", "-c", "sh -c 'printf child >/proc/self/comm; echo; sleep 100' & wait"],
                                 stdout=subprocess.PIPE)
        try:
            shell.stdout.readline()
            names = [processes.name(pid) for pid in processes.descendants(os.getpid())]
            self.assertEqual(names[:2], ["sh", "child"])
            self.assertEqual(processes.descendants(shell.pid, {"child"}), [])
        finally:
            processes.end([shell])
            shell.stdout.close()
        self.assertEqual(processes.descendants(os.getpid()), [])

    def test_processor_time_grows_with_work(self):
        before = processes.processor_time([os.getpid()])
        sum(range(3_000_000))
        self.assertGreater(processes.processor_time([os.getpid()]), before + 0.005)

    def test_process_that_has_ended_has_had_no_time(self):
        with subprocess.Popen(["true"]) as ended:
            ended.wait()
            self.assertEqual(processes.processor_time([ended.pid]), 0)
            self.assertEqual(processes.name(ended.pid), "")


if __name__ == "__main__":
    unittest.main()
