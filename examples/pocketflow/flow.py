"""A plain PocketFlow flow. It knows nothing of flex: shared in, shared out, actions decide the way."""

import re

from pocketflow import BatchNode, Flow, Node

WORDS_A_MINUTE = 220


class Split(Node):
    """Cuts the text into sentences."""

    def prep(self, shared):
        """Take the text."""
        return shared["text"]

    def exec(self, text):
        """Return the sentences."""
        return [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()]

    def post(self, shared, prep_res, exec_res):
        """Keep the sentences; say whether there is anything to measure."""
        shared["sentences"] = exec_res
        return "measure" if exec_res else "empty"


class Measure(BatchNode):
    """Counts the words of each sentence."""

    def prep(self, shared):
        """Take the sentences."""
        return shared["sentences"]

    def exec(self, sentence):
        """Count the words of one."""
        return len(re.findall(r"\w+", sentence))

    def post(self, shared, prep_res, exec_res_list):
        """Keep the counts."""
        shared["counts"] = exec_res_list


class Judge(Node):
    """Says how the text reads."""

    def prep(self, shared):
        """Take sentences and counts."""
        return shared["sentences"], shared["counts"]

    def exec(self, measured):
        """Make the report."""
        sentences, counts = measured
        longest = max(range(len(counts)), key=counts.__getitem__)
        average = sum(counts) / len(counts)
        return {
            "words": sum(counts),
            "sentences": len(sentences),
            "minutes": round(sum(counts) / WORDS_A_MINUTE, 1),
            "verdict": "easy" if average <= 14 else "fair" if average <= 22 else "hard",
            "longest_sentence": sentences[longest],
        }

    def post(self, shared, prep_res, exec_res):
        """Keep the report."""
        shared["report"] = exec_res


class Nothing(Node):
    """There is no text."""

    def post(self, shared, prep_res, exec_res):
        """Report just that."""
        shared["report"] = {"words": 0, "sentences": 0, "minutes": 0, "verdict": "empty", "longest_sentence": ""}


split, measure, judge, nothing = Split(), Measure(), Judge(), Nothing()
split - "measure" >> measure >> judge
split - "empty" >> nothing
flow = Flow(start=split)

if __name__ == "__main__":
    shared = {"text": "Dough rests. Bakers do not, because somebody has to light the ovens before the harbour wakes."}
    flow.run(shared)
    print(shared["report"])
