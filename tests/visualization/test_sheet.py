import numpy as np
import pytest

from sor_ppa.visualization import contact_sheet


def _picture(height, width, value):
    return np.full((height, width, 3), value, np.uint8)


def test_the_sheet_has_the_given_width_and_one_band_per_row():
    pictures = [_picture(60, 80, v) for v in (10, 120, 200)]
    titles = ["Input", "Truth", "Prediction"]
    one = contact_sheet([pictures], titles, width=600)
    two = contact_sheet([pictures, pictures], titles, width=600)
    assert one.shape[1] == two.shape[1] == 600
    assert one.dtype == np.uint8
    assert two.shape[0] - one.shape[0] >= 0.75 * (600 / 3 - 30)


def test_pictures_keep_their_order():
    pictures = [_picture(50, 50, 0), np.full((900, 900), 100, np.uint8), _picture(50, 50, 200)]
    sheet = contact_sheet([pictures], ["a", "b", "c", "none"], width=1200)
    row = sheet[sheet.shape[0] // 2 + 40]
    assert [int(row[x, 0]) for x in (150, 450, 750)] == [0, 100, 200]
    assert row[950:].min() > 200


def test_headings_and_labels_are_drawn():
    picture = [_picture(50, 50, 128)]
    blank = contact_sheet([picture], [""], width=300)
    titled = contact_sheet([picture], ["Input"], width=300)
    labelled = contact_sheet([picture], ["Input"], row_labels=["photo.jpg"], width=300)
    assert (titled[:25] < 100).sum() > (blank[:25] < 100).sum()
    assert labelled.shape[0] > titled.shape[0]


def test_a_long_label_is_shortened_to_the_sheet():
    sheet = contact_sheet([[_picture(50, 50, 0)]], ["a"], row_labels=["x" * 500], width=300)
    assert sheet[:, -4:].min() > 200


@pytest.mark.parametrize(
    ("rows", "titles", "labels", "message"),
    [
        ([], [], None, "titles: expected a heading for every column, found 0"),
        ([[_picture(5, 5, 0)] * 2], ["a"], None, "titles: expected a heading for every column, found 1"),
        ([[_picture(5, 5, 0)]], ["a"], [], "row_labels: expected 1"),
        ([], ["a"] * 10, None, "width: expected at least 160 for 10 columns, found 60"),
    ],
)
def test_arguments_that_do_not_match_are_refused(rows, titles, labels, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(rows, titles, row_labels=labels, width=60)
