-- meter_windows: the meters that are sent running totals, and how long the windows are that those are of.
select meter, window_s from meter_window order by meter
