"""Every bad input and every check by its number: what is expected, and the tests that prove it.

To find input 17: ``INPUTS[17]``, or ``grep -n "^    17:" tests/bad_inputs/table.py``. Names without a file are in the
file of their group, :data:`GROUPS`; ``[case]`` is one case of a parametrised test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["CHECKS", "GROUPS", "INPUTS", "SETTINGS", "Entry", "group_of"]

GROUPS: Final[Mapping[range, str]] = {
    range(1, 22): "test_images",
    range(22, 32): "test_names_and_paths",
    range(32, 37): "test_pipes",
    range(37, 40): "test_checkpoints",
    range(40, 41): "test_archives",
    range(41, 45): "test_labels",
    range(45, 46): "test_named_pipes",
}
"""Numbers of bad inputs and the module of ``tests/bad_inputs`` that they are in."""


@dataclass(frozen=True)
class Entry:
    """A bad input."""

    what: str
    expected: str
    """With the exit code; ``F``: this file fails, is named with its cause, the others are done, and the code is 1."""
    proofs: tuple[str, ...]
    """Tests: ``test_name``, ``test_name[case]``, ``path.py::test_name``; paths begin below ``tests``."""


def group_of(number: int) -> str:
    """Return the module that a bad input's tests are in."""
    return next(module for numbers, module in GROUPS.items() if number in numbers)


_ALONE: Final = "test_a_file_that_is_no_picture_fails_alone"
_ODD: Final = "test_an_odd_picture_is_answered_like_the_plain_one"
_ROW: Final = "test_43_and_44_a_row_that_cannot_be_used_is_named_by_its_line"
_COCO: Final = "test_43_and_44_annotations_of_coco"
_MASK: Final = "test_41_and_42_masks_that_are_refused"

INPUTS: Final[Mapping[int, Entry]] = {
    1: Entry("zero-byte .jpg", "F: empty file", (f"{_ALONE}[1-empty]",)),
    2: Entry("HTML saved as .jpg", "F: is HTML, not an image", (f"{_ALONE}[2-html]",)),
    3: Entry("truncated JPEG", "F; --allow-truncated decodes and names it", (
        f"{_ALONE}[3-truncated-jpeg]", f"{_ALONE}[3-truncated-progressive]",
        "test_3_and_4_truncated_pictures_on_request",
    )),
    4: Entry("truncated PNG", "F; as 3", (
        f"{_ALONE}[4-truncated-png]", "test_3_and_4_truncated_pictures_on_request",
        "test_what_is_there_of_a_truncated_png_is_exact",
    )),
    5: Entry("JPEG that lacks its end marker only", "0, source untouched", ("test_5_a_jpeg_without_its_end_marker",)),
    6: Entry("400 MP PNG of some kB", "F before it is decoded, naming --max-pixels", (
        f"{_ALONE}[6-400-megapixels]", "test_6_the_limit_can_be_set",
        "data/test_images.py::test_pixel_limit_is_checked_before_decoding",
    )),
    7: Entry("photo of 90 to 179 MP", "0, one note", ("test_7_a_photo_of_a_hundred_megapixels",)),
    8: Entry("16-bit grey PNG", "0, divided by 257, noted once", (
        "test_8_sixteen_bit_grey", "data/test_images.py::test_16_bit_samples_are_divided_by_257",
    )),
    9: Entry("16-bit RGB; float TIFF", "0; F: float TIFF is not supported", (
        f"{_ODD}[9-16-bit-rgb-png]", f"{_ODD}[9-16-bit-rgb-tiff]", f"{_ALONE}[9-float-grey-tiff]",
        f"{_ALONE}[9-float-rgb-tiff]", f"{_ALONE}[9-double-rgba-tiff]", f"{_ALONE}[9-32-bit-rgb-tiff]",
    )),
    10: Entry("CMYK JPEG", "0", (
        f"{_ODD}[10-cmyk-jpeg]", "data/test_images.py::test_cmyk_jpeg_has_the_colours_of_the_original",
    )),
    11: Entry("palette with and without transparency, LA, 1 bit", "0, alpha on white, noted", (
        f"{_ODD}[11-palette]", f"{_ODD}[11-la]", f"{_ODD}[11-one-bit]",
        "test_11_and_12_what_is_transparent_is_white_whatever_colour_lies_under_it",
    )),
    12: Entry("RGBA with colour under alpha 0", "0, on white", (
        "test_11_and_12_what_is_transparent_is_white_whatever_colour_lies_under_it",
    )),
    13: Entry("EXIF orientation 1 to 8", "0, as displayed", ("test_13_turned_by_exif",)),
    14: Entry("corrupt EXIF", "0, ignored, noted", (
        f"{_ODD}[14-corrupt-exif]", "data/test_images.py::test_corrupt_exif_is_ignored_with_a_note",
    )),
    15: Entry("animated GIF or WebP, several pages", "0, first frame, noted", (
        f"{_ODD}[15-animated-gif]", f"{_ODD}[15-animated-webp]", f"{_ODD}[15-pages-of-a-tiff]",
    )),
    16: Entry("1x1, 1x500, 500x1", "0, same size", ("test_16_and_17_any_size",)),
    17: Entry("odd sizes, primes, 31x33", "0, exact size, corners in their places", (
        "test_16_and_17_any_size", "inference/test_predictor.py::test_corners_stay_in_their_corners",
    )),
    18: Entry("all black, all white, constant", "0, no NaN", ("test_18_and_19_nothing_to_find",)),
    19: Entry("nobody in the picture", "0, empty mask, said", ("test_18_and_19_nothing_to_find[19-nobody]",)),
    20: Entry("wrong or upper-case suffix", "0, by content", ("test_20_and_21_suffixes",)),
    21: Entry(".jpeg, several dots", "0, stem + .png", ("test_20_and_21_suffixes",)),
    22: Entry("names: spaces, é, 日本語, emoji, newline, [draft], -", "0, shown as they are; -- honoured", (
        "test_22_names_of_any_kind", "test_22_a_name_that_begins_with_a_dash",
        "inference/test_predict.py::test_a_name_that_is_no_utf8",
    )),
    23: Entry("folder called x.jpg", "0, searched", ("test_23_a_folder_called_like_a_picture",)),
    24: Entry("broken link, link loop", "F: broken link; loops not followed", (
        "test_24_links_to_nothing_and_in_circles", "inference/test_inputs.py::test_links_to_folders_are_followed_once",
    )),
    25: Entry("mode 000, FIFO, device", "F: permission denied; not a regular file", (
        "test_25_what_may_not_be_read", "test_25_what_is_no_ordinary_file",
    )),
    26: Entry("same stem twice; same name in two folders", "2 with both names, --keep-ext; tree kept", (
        "test_26_the_same_stem_twice", "test_26_the_same_name_in_two_folders",
    )),
    27: Entry("input and output folder in each other", "2; outputs are no inputs, and that is said", (
        "test_27_input_and_output_folders_in_each_other",
        "test_27_outputs_of_another_run_are_passed_over_and_that_is_said",
    )),
    28: Entry("no photos", "3; --allow-empty: 0; hidden ones are told", (
        "test_28_a_folder_without_photos", "test_28_files_for_all_photos_are_there_without_any",
        "test_28_photos_whose_names_begin_with_a_dot_are_left_out_and_that_is_said", "test_28_prepare_says_it_too",
    )),
    29: Entry("path that is not there", "3 with the nearest name", ("test_29_a_path_that_is_not_there",)),
    30: Entry("disk full, output read-only", "3, nothing half-written, what is finished stays", (
        "test_30_a_disk_that_is_full_or_read_only", "test_30_an_output_folder_that_cannot_be_made",
        "test_30_an_output_folder_that_may_not_be_written",
    )),
    31: Entry("file deleted or growing meanwhile", "F", ("test_31_a_file_that_changes_during_the_run",)),
    32: Entry("stdin closed or empty; a terminal", "3; 2 with the way to do it", (
        "test_32_standard_input_without_a_photo",
    )),
    33: Entry("-o - on a terminal", "2", ("test_33_a_picture_is_not_written_to_a_terminal",)),
    34: Entry("| head", "141 or 0, quiet", (
        "test_34_a_reader_that_leaves_early", "test_cli.py::test_a_closed_pipe_is_quiet",
    )),
    35: Entry("Ctrl-C, SIGTERM", "130, 143, nothing partial, --skip-existing does the rest", (
        "test_35_a_signal", "training/test_train_command.py::test_a_signal_ends_in_good_order_and_the_hint_continues",
        "faults/test_faults.py::test_what_was_killed_is_finished_by_the_same_command",
    )),
    36: Entry("GPU asked for, none there", "6 with the reason", (
        "test_36_a_gpu_that_is_not_there", "test_device.py::test_an_absent_device_is_an_error",
    )),
    37: Entry("checkpoint: evil pickle", "3, names the function, nothing run", (
        "test_37_a_checkpoint_that_would_run_code", "test_37_a_checkpoint_that_names_what_loads_others",
        "models/test_pickles.py::test_code_is_refused_and_not_run",
    )),
    38: Entry("checkpoint: HTML, zero, cut off, wrong checksum", "3, plain cause, command to fetch it again", (
        "test_38_what_is_no_checkpoint", "test_38_a_checkpoint_that_is_cut_off", "test_38_the_wrong_checksum",
        "test_38_a_fetched_checkpoint_that_is_damaged_is_fetched_again_by_the_hint",
        "test_38_the_command_for_a_row_of_the_list_is_whole",
    )),
    39: Entry("checkpoint: other classes, module., other task, NaN", "prefix taken off; else 3 with both numbers", (
        "test_39_a_prefix_of_wrappers_is_taken_off", "test_39_weights_of_another_number_of_classes_or_another_task",
        "test_39_weights_that_are_no_numbers", "test_an_export_to_a_name_that_no_model_can_have",
    )),
    40: Entry("hostile archive", "3 naming the member, nothing left", (
        "test_40_an_archive_that_is_refused_leaves_nothing",
        "test_40_the_same_archive_without_the_bad_member_is_taken",
        "fetch/test_unpack.py::test_a_name_that_leads_elsewhere_is_refused_by_name",
    )),
    41: Entry("mask: palette, RGB, JPEG, 16 bits, 0/255, foreign id, 255, float", "0, or 3 listed", (
        "test_41_masks_that_are_taken", _MASK,
    )),
    42: Entry("sizes differ, mask or photo missing, turned by EXIF", "3, all listed at once; --drop-bad", (
        "test_42_pairs_that_are_none_are_all_listed_at_once", f"{_MASK}[42-rotated]",
        "test_42_a_photo_that_is_turned_by_exif_and_a_mask_that_lies_as_displayed",
        "test_a_file_in_the_place_of_a_folder_is_told_as_what_it_is",
    )),
    43: Entry("run lengths: odd count, past the end, zero-based, NaN, swapped size", "3 naming the line; --drop-bad", (
        f"{_ROW}[43-odd-count]", f"{_ROW}[43-past-the-end]", f"{_ROW}[43-zero-based]", f"{_ROW}[43-nan]",
        f"{_ROW}[43-swapped]", f"{_COCO}[runs-too-short]",
    )),
    44: Entry("list: column missing, BOM, CRLF, unknown category, row twice, no photo", "0 for BOM and CRLF; else 3", (
        "test_44_a_column_that_is_missing", "test_44_a_byte_order_mark_and_windows_lines",
        "test_44_the_same_row_twice_counts_once_and_that_is_said", f"{_ROW}[44-unknown-category]",
        f"{_ROW}[44-not-whole]", f"{_ROW}[44-no-photo]", f"{_COCO}[unknown-category]", f"{_COCO}[no-image]",
    )),
    45: Entry("a pipe that nobody writes to in the place of a file", "3 at once; 2 for a list in the output folder", (
        "test_45_a_colour_table", "test_45_a_file_of_a_bundle",
        "test_45_a_model", "test_45_a_background",
        "test_45_a_recipe", "test_45_a_list_of_what_is_finished",
        "test_45_a_list_of_cutouts_beside_their_photos",
        "data/test_joining.py::test_a_file_that_cannot_be_read_is_named",
    )),
}  # fmt: skip
"""The forty-five bad inputs."""

SETTINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "unknown key, wrong type, number as text, negative, zero, empty: 2": (
        "test_a_setting_that_makes_no_sense", "test_a_recipe_that_makes_no_sense",
        "test_all_that_is_wrong_is_said_at_once",
        "test_files_and_folders_in_each_others_places",
    ),
    "two runs in one run directory: 5": (
        "test_two_runs_in_one_run_directory", "training/test_train_command.py::test_a_second_start_is_busy",
    ),
    "clock, locale, encoding, terminal: no crash": (
        "test_clocks_locales_and_terminals", "test_cli.py::test_odd_terminals_do_not_break_it",
        "test_terminal.py::test_errors_name_files_that_the_locale_cannot_say",
    ),
}  # fmt: skip
"""The same for configuration; names without a file are in ``test_config``."""

CHECKS: Final[Mapping[int, tuple[str, tuple[str, ...]]]] = {
    1: ("a mirrored photo gives the mirrored labels with left and right swapped, in training and prediction", (
        "data/test_augment.py::test_a_flip_is_the_flipped_view_with_left_and_right_swapped",
        "inference/test_views.py::test_a_mirrored_photo_gets_the_mirrored_answer",
    )),
    2: ("every category of iMaterialist has its class, overlaps too", (
        "data/sources/test_imaterialist.py::test_truth_table_of_the_categories",
        "data/sources/test_imaterialist.py::test_overlaps",
    )),
    3: ("no resize of labels gives a new id", (
        "test_3_no_resize_of_labels_gives_a_new_id",
        "data/test_augment.py::test_labels_gain_no_value_and_stay_on_the_grid",
        "data/test_images.py::test_labels_are_resized_exactly_as_pillow_does",
    )),
    4: ("classes that are absent, never predicted, or only predicted", (
        "evaluation/test_metrics.py::test_hand_worked",
        "evaluation/test_metrics.py::test_in_truth_but_never_predicted_is_zero_and_counts",
        "evaluation/test_metrics.py::test_predicted_but_not_in_truth_is_zero_counts_and_is_listed",
    )),
    5: ("a folder with one of each bad file", (
        "test_5_a_folder_with_one_of_each", "inference/test_predict.py::test_a_folder_with_one_of_each_bad_file",
    )),
    6: ("the command line imports nothing heavy", ("test_cli.py::test_help_imports_nothing_heavy",)),
    7: ("kill -9 while something is saved: what was there before still loads", (
        "test_bundle.py::test_a_kill_between_any_two_steps_leaves_a_whole_bundle",
        "faults/test_faults.py::test_what_was_killed_is_finished_by_the_same_command",
        "training/test_train_command.py::test_a_killed_run_resumes_and_ends_bit_equal",
    )),
    8: ("a resumed run is the uninterrupted one, bit for bit", (
        "training/test_loop.py::test_an_interrupted_and_resumed_run_is_bit_equal",
    )),
    9: ("no pickle runs anything", (
        "bad_inputs/test_checkpoints.py::test_37_a_checkpoint_that_would_run_code",
        "models/test_pickles.py::test_the_attacks_would_work",
    )),
    10: ("plain text where it is piped, JSON alone on stdout", (
        "test_10_what_is_piped_is_plain", "test_10_standard_output_is_empty_unless_it_is_asked_for",
        "test_cli.py::test_piped_output_has_no_escape_codes",
        "test_end_to_end.py::test_stdout_is_empty_without_json",
    )),
    11: ("the same folder twice: the second run does nothing", (
        "test_11_the_same_folder_twice", "test_11_the_same_source_twice",
    )),
    12: ("a palette mask keeps its ids from prepare to the scores", (
        "test_12_palette_masks_keep_their_ids_to_the_end",
    )),
}  # fmt: skip
"""Twelve checks that are cheap and would each have caught an error of a well-known tool: what, and the tests. Names
without a file are in ``test_checks``."""
